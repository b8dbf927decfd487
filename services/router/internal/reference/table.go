// Package reference reads reference data: small tables out of files, such as the site and the type of each device, that messages are
// enriched with and conditions look at. A table is read whole and swapped in one step; a file that is broken leaves the
// table before it in place.
package reference

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Limits of a table. A file beyond them is refused as a whole.
const (
	FileBytesMax = 64 << 20
	RowsMax      = 1_000_000
)

// Row is one row by column. It is shared and must not be changed. Of CSV every value is a string; JSON keeps its types.
type Row = map[string]any

// Table is what a file held.
type Table struct {
	rows    map[string]Row
	columns []string
}

// Row returns the row of key, and whether there is one.
func (t *Table) Row(key string) (Row, bool) {
	r, ok := t.rows[key]
	return r, ok
}

// Len returns the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Columns returns the names of the columns that any row has, sorted.
func (t *Table) Columns() []string { return t.columns }

// Source says where a table comes from.
type Source struct {
	Name   string
	File   string
	Format string   // csv or json; "" goes by the file's ending
	Key    string   // the column by which rows are found
	Needs  []string // columns that must be there
}

// FormatOf returns the format that a file's ending stands for, "" of any other.
func FormatOf(file string) string {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".csv", ".tsv":
		return "csv"
	case ".json":
		return "json"
	}
	return ""
}

// Load reads the table. Errors name the file, and the row where one is at fault.
func Load(s Source) (*Table, error) {
	b, err := readBounded(s.File)
	if err != nil {
		return nil, fmt.Errorf("read reference data %s: %w", s.Name, err)
	}
	t, err := Parse(s, b)
	if err != nil {
		return nil, fmt.Errorf("reference data %s: %s: %w", s.Name, s.File, err)
	}
	return t, nil
}

func readBounded(file string) (b []byte, err error) {
	f, err := os.Open(file) //nolint:gosec // the operator names it in the configuration
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err = io.ReadAll(io.LimitReader(f, FileBytesMax+1))
	if err == nil && len(b) > FileBytesMax {
		err = fmt.Errorf("%s has more than %d bytes", file, FileBytesMax)
	}
	return b, err
}

// Parse reads a table out of the bytes of a file. A CSV begins with a line of column names and is separated by the first of
// comma, semicolon and tab that this line contains. A JSON is an array of objects, or an object of objects by key.
func Parse(s Source, b []byte) (*Table, error) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	format := s.Format
	if format == "" {
		format = FormatOf(s.File)
	}
	t := &Table{rows: make(map[string]Row)}
	var err error
	switch format {
	case "csv":
		err = t.parseCSV(s.Key, b)
	case "json":
		err = t.parseJSON(s.Key, b)
	default:
		err = fmt.Errorf("the format is %q, want csv or json", format)
	}
	if err != nil {
		return nil, err
	}
	for _, column := range s.Needs {
		if !slices.Contains(t.columns, column) && len(t.rows) > 0 {
			return nil, fmt.Errorf("there is no column %q, want one of %s", column, strings.Join(t.columns, ", "))
		}
	}
	return t, nil
}

func (t *Table) parseCSV(key string, b []byte) error {
	r := csv.NewReader(bytes.NewReader(b))
	header, _, _ := bytes.Cut(b, []byte("\n"))
	for _, separator := range ",;\t" {
		if bytes.ContainsRune(header, separator) {
			r.Comma = separator
			break
		}
	}
	names, err := r.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("it is empty, want a line of column names")
	}
	if err != nil {
		return err
	}
	at := slices.Index(names, key)
	if at < 0 {
		return fmt.Errorf("there is no key column %q, want one of %s", key, strings.Join(names, ", "))
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("line 1: the column %q is there twice", name)
		}
	}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		row := make(Row, len(names))
		for i, name := range names {
			row[name] = fields[i]
		}
		line, _ := r.FieldPos(0)
		if err := t.add(fields[at], row); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	slices.Sort(names)
	t.columns = names
	return nil
}

func (t *Table) add(key string, row Row) error {
	if key == "" {
		return errors.New("the key is empty")
	}
	if _, double := t.rows[key]; double {
		return fmt.Errorf("the key %q is there twice", key)
	}
	if len(t.rows) == RowsMax {
		return fmt.Errorf("more than %d rows", RowsMax)
	}
	t.rows[key] = row
	return nil
}

// Text returns a cell as a property holds it: a string as it is, numbers and booleans in JSON's way. ok is false of null,
// arrays and objects.
func Text(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool, float64:
		b, err := json.Marshal(v)
		return string(b), err == nil
	}
	return "", false
}
