package reference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

func (t *Table) parseJSON(key string, b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	first, err := d.Token()
	if err != nil {
		return fmt.Errorf("want an array of objects, or an object of objects: %w", err)
	}
	columns := make(map[string]bool)
	byKey := first == json.Delim('{')
	if !byKey && first != json.Delim('[') {
		return fmt.Errorf("it begins with %v, want an array of objects, or an object of objects", first)
	}
	for n := 1; d.More(); n++ {
		var name string
		if byKey {
			token, err := d.Token()
			if err != nil {
				return fmt.Errorf("row %d: %w", n, err)
			}
			name, _ = token.(string)
		}
		var row Row
		if err := d.Decode(&row); err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		if row == nil {
			return fmt.Errorf("row %d: null, want an object", n)
		}
		if !byKey {
			if name, err = textOf(row[key]); err != nil {
				return fmt.Errorf("row %d: key column %q: %w", n, key, err)
			}
		} else if _, has := row[key]; !has {
			row[key] = name
		}
		if err := t.add(name, row); err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		for column := range row {
			columns[column] = true
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("it ends too early: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows after the table")
	}
	t.columns = slices.Sorted(maps.Keys(columns))
	return nil
}

func textOf(v any) (string, error) {
	text, ok := Text(v)
	if !ok {
		return "", fmt.Errorf("%v, want a string or a number", v)
	}
	return text, nil
}
