package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Defaulter is implemented by (pointers to) structs that stand in lists and maps or behind nil pointers: each new one
// gets its defaults by this call before the file is read into it.
type Defaulter interface{ SetDefaults() }

// field is one key of a struct.
type field struct {
	key   string
	index []int
	typ   reflect.Type
	doc   string
	enum  []string
}

// fieldsOf lists the keys of a struct in their order, inlined structs' among them.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for sf := range t.Fields() {
		tag, tagged := sf.Tag.Lookup("yaml")
		name, rest, _ := strings.Cut(tag, ",")
		if !tagged || !sf.IsExported() || name == "-" {
			continue
		}
		if isInline(rest) && sf.Type.Kind() == reflect.Struct {
			for _, inner := range fieldsOf(sf.Type) {
				inner.index = append(slices.Clone(sf.Index), inner.index...)
				fields = append(fields, inner)
			}
			continue
		}
		one := field{key: name, index: sf.Index, typ: sf.Type, doc: sf.Tag.Get("doc")}
		if enum := sf.Tag.Get("enum"); enum != "" {
			one.enum = strings.Split(enum, "|")
		}
		fields = append(fields, one)
	}
	return fields
}

func isInline(options string) bool { return slices.Contains(strings.Split(options, ","), "inline") }

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		keys = append(keys, f.key)
	}
	return keys
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// isScalar tells whether one YAML scalar fills a value of the type.
func isScalar(t reflect.Type) bool {
	if isText(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	default:
		return false
	}
}

// isSection tells whether values of the type have keys of their own.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isText(t) }

// newDefault returns a settable value of the type, with the defaults that the type itself knows.
func newDefault(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := reflect.TypeAssert[Defaulter](v); ok {
		d.SetDefaults()
	}
	return v.Elem()
}

// join appends a key to the dotted path of its parent.
func join(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// checkType refuses, before anything is read, a type that has something in it that no YAML can fill.
func checkType(t reflect.Type, key string, above []reflect.Type) error {
	if isScalar(t) || slices.Contains(above, t) {
		return nil
	}
	above = append(slices.Clip(above), t)
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return checkType(t.Elem(), key, above)
	case reflect.Map:
		if !isScalar(t.Key()) {
			return fmt.Errorf("%s: map keys of type %v, want text or numbers", key, t.Key())
		}
		return checkType(t.Elem(), key, above)
	case reflect.Struct:
		return checkFields(t, key, above)
	default:
		return fmt.Errorf("%s: type %v, which no configuration can hold", key, t)
	}
}

func checkFields(t reflect.Type, key string, above []reflect.Type) error {
	seen := make(map[string]bool)
	for _, f := range fieldsOf(t) {
		full := join(key, f.key)
		if f.key == "" || seen[f.key] {
			return fmt.Errorf("%s: %v has this key twice, or a field without a name", full, t)
		}
		seen[f.key] = true
		if err := checkType(f.typ, full, above); err != nil {
			return err
		}
	}
	return nil
}
