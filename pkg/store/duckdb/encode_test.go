package duckdb_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/parquet-go/parquet-go"

	"github.com/millrace/millrace/pkg/store/answer"
	"github.com/millrace/millrace/pkg/store/duckdb"
)

const everyType = `SELECT * FROM (VALUES
	(true, 1::TINYINT, -2::SMALLINT, 3::INTEGER, 9007199254740993::BIGINT, 18446744073709551615::UBIGINT, 170141183460469231731687303715884105727::HUGEINT,
	 1.5::FLOAT, 2.25::DOUBLE, 12.340::DECIMAL(9,3), 'größer, "x"', 'a\xFF'::BLOB, DATE '1969-12-31', TIME '12:34:56.5',
	 TIMESTAMP '2017-04-12 17:05:20.48085', '2017-04-12 17:05:20.4808507'::TIMESTAMP_NS, '2017-04-12 17:05:20+02'::TIMESTAMPTZ,
	 INTERVAL '14 months 3 days 1.5 seconds', '01234567-89ab-cdef-0123-456789abcdef'::UUID, [1, NULL, 3], {'a': 1, 'b': 'x'}, MAP {'k': 1.5},
	 '{"j":[1,"2"]}'::JSON, 'happy'::ENUM ('sad', 'happy'), 'NaN'::DOUBLE, ''),
	(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
) t(bool, tiny, small, int, big, ubig, huge, f, d, dec, text, blob, date, time, ts, ns, tz, iv, uuid, list, struct, map, json, enum, nan, empty)`

func encode(t *testing.T, db *duckdb.DB, accept, sql string, maxRows int) []byte {
	t.Helper()
	encoding, err := answer.EncodingFor(accept)
	if err != nil {
		t.Fatal(err)
	}
	result, err := db.Query(t.Context(), answer.Request{SQL: sql, MaxRows: maxRows})
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close()
	var out bytes.Buffer
	if err := encoding.Write(&out, result); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestEncodings(t *testing.T) {
	db := openAt(t, t.TempDir(), nil)
	t.Run("JSON", func(t *testing.T) {
		b := encode(t, db, "", everyType, 0)
		const want = `[true,1,-2,3,9007199254740993,18446744073709551615,170141183460469231731687303715884105727,1.5,2.25,12.34,"größer, \"x\"",` +
			`"a\\xFF","1969-12-31","12:34:56.5","2017-04-12T17:05:20.48085Z","2017-04-12T17:05:20.4808507Z","2017-04-12T15:05:20Z",` +
			`"1 year 2 months 3 days 00:00:01.5","01234567-89ab-cdef-0123-456789abcdef",[1,null,3],{"a":1,"b":"x"},{"k":1.5},{"j":[1,"2"]},"happy","NaN",""]`
		if !bytes.Contains(b, []byte("\n"+want+",\n[null")) {
			t.Errorf("got %s\nwant a row %s", b, want)
		}
		var shown struct {
			Columns   []answer.Column `json:"columns"`
			Rows      [][]any         `json:"rows"`
			RowCount  int             `json:"row_count"`
			Truncated bool            `json:"truncated"`
		}
		if err := json.Unmarshal(b, &shown); err != nil {
			t.Fatal(err)
		}
		if len(shown.Columns) != 26 || shown.Columns[15] != (answer.Column{Name: "ns", Type: "TIMESTAMP_NS"}) || shown.RowCount != 2 || shown.Truncated {
			t.Errorf("got %+v", shown)
		}
		if err := json.Unmarshal(encode(t, db, "application/json", `FROM range(9)`, 4), &shown); err != nil || !shown.Truncated || shown.RowCount != 4 {
			t.Errorf("got %+v, %v", shown, err)
		}
	})
	t.Run("NDJSON", func(t *testing.T) {
		if got := string(encode(t, db, "application/x-ndjson", `SELECT 1 AS a, 'x' AS b, 2 AS a`, 0)); got != `{"a":1,"b":"x","a_1":2}`+"\n" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("CSV", func(t *testing.T) {
		b := encode(t, db, "text/csv", everyType, 0)
		rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
		if err != nil || len(rows) != 3 || rows[1][10] != `größer, "x"` || rows[1][15] != "2017-04-12T17:05:20.4808507Z" {
			t.Errorf("got %q, %v", rows, err)
		}
		if got := string(encode(t, db, "text/csv", `SELECT NULL AS a, '' AS b, ' x' AS c`, 0)); got != "a,b,c\n,\"\",\" x\"\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("Arrow", func(t *testing.T) { checkArrow(t, db) })
	t.Run("Parquet", func(t *testing.T) {
		b := encode(t, db, "application/vnd.apache.parquet", everyType, 0)
		f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if f.NumRows() != 2 || len(f.Schema().Fields()) != 26 || f.Schema().Fields()[0].Name() != "bool" || f.Schema().Fields()[25].Name() != "empty" {
			t.Errorf("got %v", f.Schema())
		}
		rows := make([]parquet.Row, 2)
		if n, err := f.RowGroups()[0].Rows().ReadRows(rows); n != 2 && !errors.Is(err, io.EOF) {
			t.Fatalf("%d rows, %v", n, err)
		}
		if got := fmt.Sprint(rows[0][0], rows[0][12], rows[0][15], rows[1][15]); got != "true -1 1492016720480850700 <null>" {
			t.Errorf("got %s", got)
		}
	})
}

func checkArrow(t *testing.T, db *duckdb.DB) {
	t.Helper()
	reader, err := ipc.NewReader(bytes.NewReader(encode(t, db, "application/vnd.apache.arrow.stream", everyType, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	n := int64(0)
	for reader.Next() {
		batch := reader.RecordBatch()
		n += batch.NumRows()
		for i, want := range map[int]string{0: "true", 3: "3", 4: "9007199254740993", 9: "12.34", 15: "2017-04-12T17:05:20.4808507Z", 20: `{"a":1,"b":"x"}`} {
			if got := batch.Column(i).ValueStr(0); got != want {
				t.Errorf("column %s is %s, want %s", batch.ColumnName(i), got, want)
			}
			if !batch.Column(i).IsNull(1) {
				t.Errorf("column %s is %s, want null", batch.ColumnName(i), batch.Column(i).ValueStr(1))
			}
		}
	}
	if n != 2 || reader.Err() != nil {
		t.Errorf("%d rows, %v", n, reader.Err())
	}
}
