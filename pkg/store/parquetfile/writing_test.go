package parquetfile_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	pq "github.com/parquet-go/parquet-go"

	"github.com/millrace/millrace/pkg/store/parquetfile"
)

// nulls writes rows whose optional fields are there where pattern has a V, and returns the pattern that each optional column has in the
// file: our own reader takes null and zero for the same, others do not.
func nulls(t *testing.T, pattern string) map[string]string {
	t.Helper()
	var file bytes.Buffer
	rows := make([]parquetfile.Row, len(pattern))
	for i, c := range pattern {
		if c == 'V' {
			v := float64(i)
			rows[i].Value, rows[i].DeviceTime, rows[i].Properties, rows[i].Attributes = &v, int64(i+1), `{"a":"b"}`, `{"c":1}`
		}
	}
	err := parquetfile.Write(&file, 1000, &parquetfile.Stats{}, func(add func([]parquetfile.Row) error) error { return add(rows) })
	if err != nil {
		t.Fatal(err)
	}
	f, err := pq.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, group := range f.RowGroups() {
		for i, path := range f.Schema().Columns() {
			pages := group.ColumnChunks()[i].Pages()
			for page, err := pages.ReadPage(); err == nil; page, err = pages.ReadPage() {
				for _, level := range page.DefinitionLevels() {
					found[path[0]] += map[byte]string{0: "N", 1: "V"}[level]
				}
			}
			if err := pages.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return found
}

func TestNullsAreNullInTheFileWhateverIsBesideThem(t *testing.T) {
	patterns := []string{"N", "V", "NVN", "NNVVN", "NVNNNNNN", "NNNVVVNNNN", "VNVNVNN"}
	chance := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var p []byte
		for len(p) < 1+chance.IntN(200) {
			p = append(p, bytes.Repeat([]byte{"NV"[chance.IntN(2)]}, 1+chance.IntN(70))...)
		}
		patterns = append(patterns, string(p))
	}
	for _, p := range patterns {
		found := nulls(t, p)
		for _, column := range []string{"value", "device_time", "properties", "attributes"} {
			if found[column] != p {
				t.Fatalf("%s is %s in the file, want %s", column, found[column], p)
			}
		}
	}
}
