package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Key describes one key for the documentation.
type Key struct {
	// Key is the full dotted key; "[]" stands for the place in a list, "<name>" for a name in a map.
	Key string
	// Type is the type in words: "duration", "list of text", "section".
	Type string
	// Default is the default as YAML, "" when there is none to show.
	Default string
	// Doc is the field's doc tag.
	Doc string
	// Env is the variable that sets the key; "" when no variable can.
	Env string
	// Section is true for a key that has keys below it, which follow it.
	Section bool
}

// Describe lists all keys of cfg, a struct (or a pointer to one) that holds the defaults, in the order of its fields.
// It gives what Load would take, so documentation made from it cannot drift. It panics on a type that Load refuses,
// since that is found by the first test that calls it.
func Describe(cfg any) []Key {
	v := reflect.ValueOf(cfg)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if err := checkType(v.Type(), "", nil); err != nil {
		panic(fmt.Sprintf("config: describe: %v", err))
	}
	var d describer
	d.fields(v, "", true, nil)
	return d.keys
}

type describer struct{ keys []Key }

// fields describes a struct's keys; settable tells whether variables reach them.
func (d *describer) fields(v reflect.Value, parent string, settable bool, above []reflect.Type) {
	if slices.Contains(above, v.Type()) {
		return // a type that contains itself is described once
	}
	above = append(slices.Clip(above), v.Type())
	for _, f := range fieldsOf(v.Type()) {
		d.one(v.FieldByIndex(f.index), join(parent, f.key), f, settable, above)
	}
}

func (d *describer) one(v reflect.Value, full string, f field, settable bool, above []reflect.Type) {
	key := Key{Key: full, Type: typeWords(f.typ, f.enum), Doc: f.doc}
	suffix, inner := innermost(f.typ)
	switch {
	case suffix == "" && isSection(inner):
		key.Section = true
		d.keys = append(d.keys, key)
		if v.Kind() == reflect.Pointer {
			v = pointed(v)
		}
		d.fields(v, full, settable, above)
		return
	case settable:
		key.Env = DefaultEnvPrefix + envName(full)
	}
	key.Default = defaultText(v)
	key.Section = isSection(inner)
	d.keys = append(d.keys, key)
	if key.Section {
		d.fields(newDefault(inner), full+suffix, false, above)
	}
}

// innermost goes through pointers, lists and maps; suffix is how a key below them is written.
func innermost(t reflect.Type) (suffix string, inner reflect.Type) {
	for !isScalar(t) {
		switch t.Kind() {
		case reflect.Pointer:
		case reflect.Slice:
			suffix += "[]"
		case reflect.Map:
			suffix += ".<name>"
		default:
			return suffix, t
		}
		t = t.Elem()
	}
	return suffix, t
}

// pointed follows pointers, and takes the type's own defaults where one is nil.
func pointed(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v = newDefault(v.Type().Elem())
			continue
		}
		v = v.Elem()
	}
	return v
}

// defaultText renders a default in YAML's flow style; lists and maps of sections by their length.
func defaultText(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		return defaultText(v.Elem())
	}
	if isScalar(v.Type()) {
		return scalarText(v)
	}
	_, inner := innermost(v.Type())
	if v.Len() > 0 && isSection(inner) {
		return strconv.Itoa(v.Len()) + " given"
	}
	return flow(v)
}

// flow renders lists and maps of scalars, nested ones too, in one line.
func flow(v reflect.Value) string {
	var parts []string
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		return flow(v.Elem())
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, flow(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case v.Kind() == reflect.Map:
		for _, name := range sortedKeys(v) {
			parts = append(parts, quoted(mapName(name))+": "+flow(v.MapIndex(name)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return scalarText(v)
}

func sortedKeys(v reflect.Value) []reflect.Value {
	names := v.MapKeys()
	slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(mapName(a), mapName(b)) })
	return names
}

// scalarText renders a scalar as Load reads it back. A secret's default is never shown.
func scalarText(v reflect.Value) string {
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		return FormatDuration(d)
	}
	if isText(v.Type()) {
		m, ok := reflect.TypeAssert[encoding.TextMarshaler](v)
		if !ok {
			return quoted(fmt.Sprint(v.Interface()))
		}
		text, err := m.MarshalText()
		if err != nil {
			return quoted("")
		}
		return quoted(string(text))
	}
	switch v.Kind() {
	case reflect.String:
		return quoted(v.String())
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits())
	default:
		return fmt.Sprint(v.Interface())
	}
}

// quoted writes a text as YAML, in quotes only where YAML would take it for something else.
func quoted(text string) string {
	escaped := strings.ReplaceAll(text, "${", "$${")
	if plainText.MatchString(escaped) && !wordWithMeaning.MatchString(escaped) {
		return escaped
	}
	return strconv.Quote(escaped)
}
