package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Example renders cfg, a struct or a pointer to one, as a YAML file with each key's doc as a comment above it. Load
// reads it back into the same values; secrets and nil pointers stand in it as comments.
func Example(cfg any) string {
	v := reflect.ValueOf(cfg)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	var e example
	e.fields(v, 0)
	return e.out.String()
}

type example struct {
	out    strings.Builder
	inList bool
}

func (e *example) line(depth int, format string, args ...any) {
	e.out.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(&e.out, format+"\n", args...)
}

func (e *example) fields(v reflect.Value, depth int) {
	for i, f := range fieldsOf(v.Type()) {
		if depth == 0 && i > 0 {
			e.out.WriteByte('\n')
		}
		if f.doc != "" && !e.inList {
			e.line(depth, "# %s", strings.ReplaceAll(f.doc, "\n", " "))
		}
		e.value(v.FieldByIndex(f.index), f.key, depth)
	}
}

func (e *example) value(v reflect.Value, key string, depth int) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			e.line(depth, "# %s:", key)
			return
		}
		v = v.Elem()
	}
	_, inner := innermost(v.Type())
	_, secret := reflect.TypeAssert[Secret](v)
	switch {
	case secret:
		e.line(depth, "# %s: ${%s}", key, envName(key))
	case isSection(v.Type()):
		if len(fieldsOf(v.Type())) == 0 {
			e.line(depth, "%s: {}", key)
			return
		}
		e.line(depth, "%s:", key)
		e.fields(v, depth+1)
	case isScalar(v.Type()), !isSection(inner), v.Len() == 0:
		e.line(depth, "%s: %s", key, flow(v))
	case v.Kind() == reflect.Slice:
		e.line(depth, "%s:", key)
		e.items(v, depth+1)
	default:
		e.line(depth, "%s:", key)
		for _, name := range sortedKeys(v) {
			e.value(v.MapIndex(name), quoted(mapName(name)), depth+1)
		}
	}
}

// items writes a list of sections, or of lists of them, without the docs: the first item would bear them all.
func (e *example) items(v reflect.Value, depth int) {
	for i := range v.Len() {
		one := example{inList: true}
		if item := pointed(v.Index(i)); isSection(item.Type()) {
			one.fields(item, depth+1)
		} else {
			one.items(item, depth+1)
		}
		if one.out.Len() == 0 {
			e.line(depth, "- {}")
			continue
		}
		e.out.WriteString(strings.Repeat("  ", depth) + "- " + one.out.String()[2*depth+2:])
	}
}
