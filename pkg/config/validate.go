package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// relativeKey is how the text of a Validate error begins: max_skew, routes[2].name, endpoints.alarms, or [2].name.
var relativeKey = regexp.MustCompile(`^(\[[^\]]*\]|[\w-]+)((?:\[[^\]]*\]|\.[\w-]+)*): (?s:(.+))$`)

type validator interface{ Validate() error }

// validate calls every Validate in the tree and reports what it says under its full key, unless that key could not
// even be read: the value is then still the default, and the one fault is enough.
func (l *loader) validate(v reflect.Value, key string) {
	unread := make(map[string]bool, len(l.faults))
	for _, f := range l.faults {
		unread[f.Key] = true
	}
	l.walk(v, key, func(v reflect.Value, key string) {
		err := validateOne(v)
		for _, one := range flatten(err) {
			f := l.refusal(v.Type(), key, one.Error())
			if !unread[f.Key] {
				l.faults = append(l.faults, f)
			}
		}
	})
}

// walk visits v and all that lies below it.
func (l *loader) walk(v reflect.Value, key string, visit func(reflect.Value, string)) {
	switch {
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			l.walk(v.Elem(), key, visit)
		}
		return
	case isScalar(v.Type()):
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			l.walk(v.Index(i), fmt.Sprintf("%s[%d]", key, i), visit)
		}
	case v.Kind() == reflect.Map:
		l.walkMap(v, key, visit)
	default:
		for sf, inner := range v.Fields() {
			name, options, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
			switch {
			case !sf.IsExported() || name == "-":
			case isInline(options):
				l.walk(inner, key, visit)
			case name != "":
				l.walk(inner, join(key, name), visit)
			}
		}
	}
	visit(v, key)
}

func (l *loader) walkMap(v reflect.Value, key string, visit func(reflect.Value, string)) {
	for _, name := range sortedKeys(v) {
		one := reflect.New(v.Type().Elem()).Elem() // a map's values cannot be addressed
		one.Set(v.MapIndex(name))
		l.walk(one, join(key, mapName(name)), visit)
		v.SetMapIndex(name, one) // Validate may have normalised it
	}
}

func mapName(v reflect.Value) string { return fmt.Sprint(v.Interface()) }

func validateOne(v reflect.Value) error {
	if !v.CanInterface() {
		return nil
	}
	if v.CanAddr() {
		if it, ok := reflect.TypeAssert[validator](v.Addr()); ok {
			return it.Validate()
		}
		return nil
	}
	if it, ok := reflect.TypeAssert[validator](v); ok {
		return it.Validate()
	}
	return nil
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) // each layer by itself
	if !ok {
		return []error{err}
	}
	var all []error
	var texts []string
	for _, one := range joined.Unwrap() {
		all = append(all, flatten(one)...)
		texts = append(texts, one.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err} // wraps several, and has words of its own
	}
	return all
}

// refusal makes a fault of one Validate error of a value of type t that stands at key.
func (l *loader) refusal(t reflect.Type, key, text string) Fault {
	f := Fault{Key: key, Text: strings.ReplaceAll(text, "\n", "; ")}
	if m := relativeKey.FindStringSubmatch(f.Text); m != nil {
		switch {
		case strings.HasPrefix(m[1], "["):
			f.Key, f.Text = key+m[1]+m[2], m[3]
		case t.Kind() == reflect.Map, isSection(t) && slices.Contains(keysOf(t), m[1]):
			f.Key, f.Text = join(key, m[1]+m[2]), m[3]
		}
	}
	o := l.nearestOrigin(f.Key)
	f.Where, f.Line = o.where, o.line
	return f
}

// nearestOrigin finds where the key, or what it lies in, was given.
func (l *loader) nearestOrigin(key string) origin {
	for key != "" {
		if o, ok := l.origins[key]; ok {
			return o
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return origin{}
}
