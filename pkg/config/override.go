package config

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// serviceLink matches what Kubernetes puts into every container for each service of the namespace. A service that is
// called millrace must not stop the pods beside it from starting. The plain …_PORT is known by its value, a URL.
var serviceLink = regexp.MustCompile(`^([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// knob is a key that a variable or flag can set: everything that does not lie inside a list or map.
type knob struct {
	key  string
	enum []string
	path [][]int
}

// knobs lists them for a type, in order.
func knobs(t reflect.Type, at knob, above []reflect.Type) []knob {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !isSection(t) {
		return []knob{at}
	}
	if slices.Contains(above, t) {
		return nil
	}
	above = append(slices.Clip(above), t)
	var all []knob
	for _, f := range fieldsOf(t) {
		next := knob{key: join(at.key, f.key), enum: f.enum, path: append(slices.Clip(at.path), f.index)}
		all = append(all, knobs(f.typ, next, above)...)
	}
	return all
}

// envName returns the part of a key's variable that follows the prefix.
func envName(key string) string {
	return strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// environment lays the variables with the prefix over v.
func (l *loader) environment(v reflect.Value) {
	byName := make(map[string][]knob)
	for _, k := range knobs(v.Type(), knob{key: l.src.Section}, nil) {
		byName[envName(k.key)] = append(byName[envName(k.key)], k)
	}
	for _, full := range slices.Sorted(maps.Keys(l.variables)) {
		name, ours := strings.CutPrefix(full, l.prefix)
		if !ours {
			continue
		}
		l.from = full
		found := byName[name]
		switch {
		case len(found) == 1:
			l.set(v, found[0], l.variables[full])
		case len(found) > 1:
			l.fault(0, "", "means %s as well as %s, set them in the file", found[0].key, found[1].key)
		case !l.elsewhere(full, name):
			known := slices.Sorted(maps.Keys(byName))
			hint := didYouMean(name, known)
			if near := nearest(name, known); near != "" {
				hint = ", did you mean " + l.prefix + near + "?"
			} else if len(known) <= listedMax {
				for i := range known {
					known[i] = l.prefix + known[i]
				}
				hint = ", want " + oneOf(known)
			}
			l.fault(0, "", "unknown variable%s", hint)
		}
	}
	l.from = ""
}

// elsewhere tells whether a variable that is no key here belongs to somebody else.
func (l *loader) elsewhere(full, name string) bool {
	if slices.Contains(l.src.OtherEnv, full) || l.src.Partly && l.ownPrefix(name) > 0 {
		return true
	}
	isURL := strings.Contains(l.variables[full], "://")
	if serviceLink.MatchString(name) || (isURL && (name == "PORT" || strings.HasSuffix(name, "_PORT"))) {
		return true
	}
	for _, section := range l.src.OtherSections {
		other := envName(section)
		// of two sections that fit, log and log-consumer, the longer name has it
		if (name == other || strings.HasPrefix(name, other+"_")) && len(section) > l.ownPrefix(name) {
			return true
		}
	}
	return false
}

// ownPrefix returns the length of the section's own name when the variable's name begins with it, else 0.
func (l *loader) ownPrefix(name string) int {
	if l.src.Section != "" && strings.HasPrefix(name, envName(l.src.Section)+"_") {
		return len(l.src.Section)
	}
	return 0
}

// flags lays the flags over v.
func (l *loader) flags(v reflect.Value) {
	byKey := make(map[string]knob)
	for _, k := range knobs(v.Type(), knob{key: l.src.Section}, nil) {
		byKey[k.key] = k
	}
	for _, key := range slices.Sorted(maps.Keys(l.src.Flags)) {
		l.from = "flag"
		k, known := byKey[key]
		section, _, _ := strings.Cut(key, ".")
		switch {
		case known:
			l.set(v, k, l.src.Flags[key])
		case section == l.src.Section && l.src.Partly:
		case section == l.src.Section || !slices.Contains(l.src.OtherSections, section):
			l.fault(0, key, "unknown key%s", didYouMean(key, slices.Sorted(maps.Keys(byKey))))
		}
	}
	l.from = ""
}

// set reads one variable's or flag's text into the key.
func (l *loader) set(root reflect.Value, k knob, text string) {
	v := root
	for _, index := range k.path {
		v = inside(v).FieldByIndex(index)
	}
	l.forget(k.key)
	p := place{key: k.key, enum: k.enum}
	t := v.Type()
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if isScalar(t) {
		l.decode(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}, v, p)
		return
	}
	if t.Kind() == reflect.Slice && isScalar(t.Elem()) && !strings.HasPrefix(strings.TrimSpace(text), "[") {
		l.decode(listNode(text), v, p)
		return
	}
	before := len(l.faults)
	n := l.parse([]byte(text), k.key)
	switch {
	case n != nil:
		l.decode(n, v, p)
	case len(l.faults) == before:
		l.decode(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, v, p)
	}
}

// listNode cuts "a, b" at its commas; nothing is the empty list.
func listNode(text string) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	if strings.TrimSpace(text) == "" {
		return list
	}
	for item := range strings.SplitSeq(text, ",") {
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.TrimSpace(item)})
	}
	return list
}

// inside follows pointers, and makes what they should point to.
func inside(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(newDefault(v.Type().Elem()).Addr())
		}
		v = v.Elem()
	}
	return v
}

// forget drops what is known of the lines of a value that is replaced.
func (l *loader) forget(key string) {
	maps.DeleteFunc(l.origins, func(k string, _ origin) bool {
		rest, below := strings.CutPrefix(k, key)
		return below && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}
