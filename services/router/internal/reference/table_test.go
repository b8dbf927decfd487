package reference_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/services/router/internal/reference"
)

func TestTablesAreRead(t *testing.T) {
	lab := reference.Row{"device": "lab1", "site": "Ulm, Nord"}
	tests := []struct {
		name, format, file string
		want               reference.Row
	}{
		{"csv", "csv", "device,site\nlab1,\"Ulm, Nord\"\nlab2,Bonn\n", lab},
		{"csv with semicolons, a BOM and CRLF", "csv", "\ufeffdevice;site\r\nlab1;Ulm, Nord\r\n", lab},
		{"csv with tabs", "csv", "device\tsite\nlab1\tUlm, Nord", lab},
		{"array", "json", `[{"device":"lab1","site":"Ulm, Nord"},{"device":2}]`, lab},
		{"object", "json", `{"lab1":{"site":"Ulm, Nord"},"lab2":{}}`, lab},
		{"values of JSON keep their types", "json", `{"lab1":{"device":"x","limits":{"high":30},"on":true}}`, reference.Row{"device": "x", "limits": map[string]any{"high": 30.0}, "on": true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table, err := reference.Parse(reference.Source{Format: tt.format, Key: "device"}, []byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := table.Row("lab1"); !ok || !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("got %v, %v, want %v", got, ok, tt.want)
			}
			if _, ok := table.Row("lab3"); ok {
				t.Fatal("there is a row that is not in the file")
			}
		})
	}
}

func TestABrokenTableIsRefusedAsAWhole(t *testing.T) {
	tests := []struct{ name, format, file, want string }{
		{"empty csv", "csv", "", "it is empty, want a line of column names"},
		{"no key column", "csv", "id,site\n1,2\n", `there is no key column "device", want one of id, site`},
		{"a column twice", "csv", "device,device\n1,2\n", `line 1: the column "device" is there twice`},
		{"a field too many", "csv", "device,site\na,b\nc,d,e\n", "record on line 3: wrong number of fields"},
		{"a key twice", "csv", "device,site\na,b\na,c\n", `line 3: the key "a" is there twice`},
		{"an empty key", "csv", "device,site\na,b\n,c\n", `line 3: the key is empty`},
		{"a needed column is missing", "csv", "device\na\n", `there is no column "site", want one of device`},
		{"empty json", "json", "", "want an array of objects, or an object of objects: EOF"},
		{"a scalar", "json", "3", "it begins with 3, want an array of objects, or an object of objects"},
		{"no object", "json", `[{"device":"a","site":"b"},3]`, "row 2: json: cannot unmarshal number"},
		{"null", "json", `[null]`, "row 1: null, want an object"},
		{"no key", "json", `[{"device":"a","site":"b"},{"site":"b"}]`, `row 2: key column "device": <nil>, want a string or a number`},
		{"broken off", "json", `[{"device":"a","site":"b"}`, "it ends too early: "},
		{"something behind", "json", `[] []`, "something follows after the table"},
		{"a key twice in an object", "json", `{"a":{"site":"x"},"a":{"site":"y"}}`, `row 2: the key "a" is there twice`},
		{"unknown format", "xls", "", `the format is "xls", want csv or json`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := reference.Parse(reference.Source{Format: tt.format, Key: "device", Needs: []string{"site"}}, []byte(tt.file))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestASetFollowsItsFileAndABrokenOneLeavesTheRowsFromBefore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sites.csv")
	at := time.Unix(1_700_000_000, 0)
	write := func(text string) {
		t.Helper()
		at = at.Add(time.Second)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	source := reference.Source{Name: "sites", File: file, Key: "device"}
	if _, err := reference.Open(source); err == nil {
		t.Fatal("a file that is not there was opened")
	}
	write("device,site\na,Ulm\n")
	set, err := reference.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	step := func(wantChanged, wantErr bool, wantSite string) {
		t.Helper()
		changed, err := set.Reload()
		if changed != wantChanged || (err != nil) != wantErr {
			t.Fatalf("changed %v, error %v, want %v, %v", changed, err, wantChanged, wantErr)
		}
		if row, _ := set.Current().Row("a"); row["site"] != wantSite {
			t.Fatalf("site %v, want %s", row["site"], wantSite)
		}
	}
	step(false, false, "Ulm")
	write("device,site\na,Bonn\n")
	step(true, false, "Bonn")
	write("device,site\na,Bern\na,Bern\n")
	step(false, true, "Bonn")
	step(false, false, "Bonn")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	step(false, true, "Bonn")
	write("device,site\na,Bern\n")
	step(true, false, "Bern")
}

func FuzzParse(f *testing.F) {
	f.Add("csv", "device,site\na,b\n")
	f.Add("json", `[{"device":"a"}]`)
	f.Add("json", `{"a":{"site":1}}`)
	f.Fuzz(func(t *testing.T, format, file string) {
		table, err := reference.Parse(reference.Source{Format: format, Key: "device"}, []byte(file))
		if err == nil && table == nil {
			t.Fatal("neither a table nor an error")
		}
	})
}
