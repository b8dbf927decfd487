package config

import (
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Typed is implemented by scalar types that name themselves in faults and in the documentation, in a few words that
// fit after "want a ": "size", "address".
type Typed interface{ ConfigType() string }

// setScalar reads text into v. Its error is what was wanted, without what was there.
func setScalar(v reflect.Value, text string, enum []string) error {
	t := v.Type()
	if t == reflect.TypeFor[time.Duration]() {
		d, err := ParseDuration(text)
		v.SetInt(int64(d))
		return err
	}
	if isText(t) {
		return setText(v, text)
	}
	var err error
	switch t.Kind() {
	case reflect.String:
		if len(enum) > 0 && !slices.Contains(enum, text) {
			return fmt.Errorf("want %s", oneOf(enum))
		}
		v.SetString(text)
		return nil
	case reflect.Bool:
		if text != "true" && text != "false" {
			err = strconv.ErrSyntax
		}
		v.SetBool(text == "true")
	case reflect.Float32, reflect.Float64:
		err = setFloat(v, text)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var n uint64
		if n, err = strconv.ParseUint(digits(text), 10, t.Bits()); err == nil {
			v.SetUint(n)
		}
	default:
		var n int64
		if n, err = strconv.ParseInt(digits(text), 10, t.Bits()); err == nil {
			v.SetInt(n)
		}
	}
	if err != nil {
		return fmt.Errorf("want %s", wanted(t, nil))
	}
	return nil
}

func setText(v reflect.Value, text string) error {
	fresh := reflect.New(v.Type()) // a type that fails half-way leaves the default as it was
	target, ok := reflect.TypeAssert[encoding.TextUnmarshaler](fresh)
	if !ok {
		return fmt.Errorf("want %s", wanted(v.Type(), nil))
	}
	if err := target.UnmarshalText([]byte(text)); err != nil {
		if words := typeName(v.Type()); words != "" {
			return fmt.Errorf("want %s", wanted(v.Type(), nil))
		}
		return err
	}
	v.Set(fresh.Elem())
	return nil
}

func setFloat(v reflect.Value, text string) error {
	x, err := strconv.ParseFloat(text, v.Type().Bits())
	if err != nil {
		return err
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return errors.New("not finite")
	}
	v.SetFloat(x)
	return nil
}

// digits takes 1_000_000 for the number it is.
func digits(text string) string { return strings.ReplaceAll(text, "_", "") }

// wanted says in words what a value of the type looks like, for "want …".
func wanted(t reflect.Type, enum []string) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 30s, 5m or 7d"
	case reflect.TypeFor[Bytes]():
		return "a size such as 256KiB"
	case reflect.TypeFor[slog.Level]():
		return "one of debug, info, warn, error"
	case reflect.TypeFor[time.Time]():
		return "a time such as 2006-01-02T15:04:05Z"
	}
	if isText(t) {
		if words := typeName(t); words != "" {
			return "a " + words
		}
		return "text"
	}
	switch t.Kind() { //nolint:exhaustive // the rest is text
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Int8, reflect.Int16, reflect.Int32:
		top := int64(math.MaxInt64) >> (64 - t.Bits())
		return fmt.Sprintf("a whole number from %d to %d", -top-1, top)
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-t.Bits()))
	case reflect.Uint, reflect.Uint64:
		return "a whole number from 0 on"
	}
	if len(enum) > 0 {
		return oneOf(enum)
	}
	return "text"
}

// typeName returns the type's own words for itself, or nothing.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[slog.Level]():
		return "debug, info, warn or error"
	case reflect.TypeFor[time.Time]():
		return "time"
	}
	if named, ok := reflect.TypeAssert[Typed](reflect.Zero(t)); ok && t.Kind() != reflect.Interface {
		return named.ConfigType()
	}
	return ""
}

// typeWords names the type in the documentation.
func typeWords(t reflect.Type, enum []string) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return typeWords(t.Elem(), enum)
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case isText(t):
		if words := typeName(t); words != "" {
			return words
		}
		return "text (" + t.String() + ")"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + plural(typeWords(t.Elem(), enum))
	case reflect.Map:
		return "map of " + plural(typeWords(t.Elem(), enum))
	case reflect.Struct:
		return "section"
	case reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strings.TrimPrefix(wanted(t, nil), "a ")
	default:
		return strings.TrimPrefix(wanted(t, enum), "a ")
	}
}

// plural is for the words that are counted; text and choices are not.
func plural(words string) string {
	switch words {
	case "section", "duration", "size", "secret", "number", "whole number", "time":
		return words + "s"
	}
	return words
}
