package answer_test

import (
	"bytes"
	"iter"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/parquet-go/parquet-go"

	"github.com/millrace/millrace/pkg/store/answer"
)

// table is a result in memory.
type table struct {
	columns []answer.Column
	rows    [][]any
}

func (t *table) Columns() []answer.Column { return t.columns }
func (t *table) Truncated() bool          { return true }
func (t *table) Close()                   {}

func (t *table) Rows() iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		for _, row := range t.rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

func everything() *table {
	huge, _ := new(big.Int).SetString("170141183460469231731687303715884105727", 10)
	at := time.Date(2017, 4, 12, 17, 5, 20, 480850700, time.UTC)
	t := &table{}
	row := []any{}
	for _, c := range []struct {
		columnType string
		value      any
	}{
		{"BOOLEAN", true},
		{"INTEGER", int32(-2)},
		{"BIGINT", int64(9007199254740993)},
		{"UBIGINT", uint64(math.MaxUint64)},
		{"HUGEINT", huge},
		{"DECIMAL(9,3)", answer.Decimal("12.34")},
		{"DOUBLE", 2.25},
		{"DOUBLE", math.NaN()},
		{"VARCHAR", "größer, \"x\""},
		{"BLOB", []byte("a\xff")},
		{"DATE", time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC)},
		{"TIMESTAMP_NS", at},
		{"INTERVAL", answer.Interval{Months: 14, Days: 3, Micros: 1_500_000}},
		{"INTEGER[]", []any{int32(1), nil}},
		{"MAP(VARCHAR, DOUBLE)", answer.Map{Keys: []any{"k"}, Values: []any{1.5}}},
		{"STRUCT(b INTEGER)", map[string]any{"b": int32(1), "a": "x"}},
	} {
		t.columns = append(t.columns, answer.Column{Name: "c", Type: c.columnType})
		row = append(row, c.value)
	}
	t.rows = [][]any{row, make([]any, len(row))}
	return t
}

func TestEveryFormWritesEveryValue(t *testing.T) {
	write := func(t *testing.T, accept string) []byte {
		t.Helper()
		form, err := answer.EncodingFor(accept)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := form.Write(&out, everything()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	t.Run("JSON", func(t *testing.T) {
		const want = `[true,-2,9007199254740993,18446744073709551615,170141183460469231731687303715884105727,12.34,2.25,"NaN","größer, \"x\"","a\\xFF",` +
			`"1969-12-31","2017-04-12T17:05:20.4808507Z","1 year 2 months 3 days 00:00:01.5",[1,null],{"k":1.5},{"a":"x","b":1}]`
		got := write(t, "")
		if !bytes.Contains(got, []byte("\n"+want+",\n[null,")) || !bytes.Contains(got, []byte(`"row_count":2,"truncated":true}`)) {
			t.Errorf("got %s\nwant a row %s", got, want)
		}
	})
	t.Run("NDJSON names each column once", func(t *testing.T) {
		if got := write(t, "application/x-ndjson"); bytes.Count(got, []byte("\n")) != 2 || !bytes.Contains(got, []byte(`"c_2":-2,`)) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("CSV", func(t *testing.T) {
		if got := write(t, "text/csv"); !bytes.Contains(got, []byte(`12.34,2.25,NaN,"größer, ""x""",a\xFF,1969-12-31,2017-04-12T17:05:20.4808507Z,`)) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("Arrow", func(t *testing.T) {
		reader, err := ipc.NewReader(bytes.NewReader(write(t, "application/vnd.apache.arrow.stream")))
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Release()
		if !reader.Next() || reader.RecordBatch().NumRows() != 2 || reader.RecordBatch().Column(5).ValueStr(0) != "12.34" || !reader.RecordBatch().Column(5).IsNull(1) {
			t.Errorf("got %v, %v", reader.RecordBatch(), reader.Err())
		}
	})
	t.Run("Parquet", func(t *testing.T) {
		b := write(t, "application/vnd.apache.parquet")
		f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
		if err != nil || f.NumRows() != 2 || len(f.Schema().Fields()) != 16 {
			t.Errorf("got %v, %v", f, err)
		}
	})
}
