package duckdb_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/answer"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/storetest"
)

// past is a history of given files and rows.
type past struct {
	files []string
	rows  [][]store.MessageRow
	held  atomic.Int32
}

type pastSnapshot struct {
	*past
	files    []string
	rows     [][]store.MessageRow
	released bool
}

func (p *past) Snapshot() (store.HistorySnapshot, error) {
	p.held.Add(1)
	return &pastSnapshot{past: p, files: p.files, rows: p.rows}, nil
}

func (s *pastSnapshot) Files() []string { return s.files }

func (s *pastSnapshot) Rows(yield func(run []store.MessageRow) bool) {
	for _, run := range s.rows {
		if !yield(run) {
			return
		}
	}
}

func (s *pastSnapshot) RowCount() int {
	n := 0
	for _, run := range s.rows {
		n += len(run)
	}
	return n
}

func (s *pastSnapshot) Release() {
	if !s.released {
		s.released = true
		s.held.Add(-1)
	}
}

func openWithPast(t *testing.T) (db *duckdb.DB, p *past, archive string) {
	t.Helper()
	dir := t.TempDir()
	archive = filepath.Join(dir, "archive")
	if err := os.MkdirAll(filepath.Join(archive, "dt=2017-04-12", "hour=17"), 0o750); err != nil {
		t.Fatal(err)
	}
	p = &past{}
	db = openAt(t, dir, func(c *duckdb.Config) { c.ArchiveDir, c.History = archive, p })
	t.Cleanup(func() {
		if n := p.held.Load(); n != 0 {
			t.Errorf("%d snapshots were not released", n)
		}
	})
	return db, p, archive
}

// export writes what a query gives to a Parquet file of the archive.
func export(t *testing.T, db *duckdb.DB, sql, path string) {
	t.Helper()
	encoding, err := answer.EncodingFor("application/vnd.apache.parquet")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	result, err := db.Query(t.Context(), answer.Request{SQL: sql, MaxRows: answer.MaxRows})
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close()
	if err := encoding.Write(f, result); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func history(n int) []store.MessageRow {
	var rows []store.MessageRow
	for i := range n {
		rows = append(rows, storetest.Message(i))
	}
	return append(rows, storetest.Extremes()...)
}

func TestHistoryShowsRowsInMemoryAndInFilesAlike(t *testing.T) {
	db, p, archive := openWithPast(t)
	all := `FROM device_messages ORDER BY origin_partition, origin_position, device_id`
	types := `SELECT column_name, column_type FROM (DESCRIBE device_messages)`
	emptyTypes, err := rowsOf(t, db, answer.Request{SQL: types})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range store.HistoryColumns() {
		if want := c.Name + "|" + string(c.Type); emptyTypes[i] != want {
			t.Errorf("column %d is %s, want %s", i, emptyTypes[i], want)
		}
	}
	rows := history(5000)
	p.rows = [][]store.MessageRow{rows[:17], rows[17:4000], nil, rows[4000:]}
	inMemory, err := rowsOf(t, db, answer.Request{SQL: all, MaxRows: answer.MaxRows})
	if err != nil || len(inMemory) != len(rows) {
		t.Fatalf("%d rows, %v, want %d", len(inMemory), err, len(rows))
	}
	wantRows(t, db, `SELECT tenant, device_id, value, event_time, kind, device_time IS NULL, properties, origin_partition, origin_position
		FROM history WHERE message_id = 'id-7'`, fmt.Sprintf("default|device-7|7.5|2017-04-12T17:05:34.4808507Z|channel|true||1|%d", 2<<24|2))
	wantRows(t, db, `SELECT properties FROM history WHERE properties LIKE '%[%'`, `{"a":["1","2"]}`)
	wantRows(t, db, `SELECT count(*) FROM archive`, "0")

	first, second := filepath.Join(archive, "dt=2017-04-12", "hour=17", "a.parquet"), filepath.Join(archive, "b.parquet")
	export(t, db, `SELECT * FROM device_messages WHERE device_id <> 'device-3'`, first)
	export(t, db, `SELECT * FROM device_messages WHERE device_id = 'device-3'`, second)
	p.files, p.rows = []string{first, second}, nil
	inFiles, err := rowsOf(t, db, answer.Request{SQL: all, MaxRows: answer.MaxRows})
	if err != nil || !slices.Equal(inMemory, inFiles) {
		t.Errorf("%d rows from files (%v) are not the %d from memory", len(inFiles), err, len(inMemory))
	}
	fileTypes, err := rowsOf(t, db, answer.Request{SQL: types})
	if err != nil || !slices.Equal(emptyTypes, fileTypes) {
		t.Errorf("types from files are %v (%v), want %v", fileTypes, err, emptyTypes)
	}
	p.files, p.rows = []string{first}, [][]store.MessageRow{rows[3:4]}
	wantRows(t, db, `SELECT (SELECT count(*) FROM archive), (SELECT count(*) FROM device_messages), (SELECT count(*) FROM history)`,
		fmt.Sprintf("%d|%d|%d", len(rows)-500, len(rows)-499, len(rows)-499))
	wantRows(t, db, `SELECT count(*) FROM device_messages a JOIN device_messages b USING (message_id) WHERE a.message_id = 'id-3'`, "1")
}

// pieced is a past that makes its runs one by one.
type pieced struct {
	past
	made atomic.Int32
}

type piecedSnapshot struct {
	*pastSnapshot
	of *pieced
}

func (p *pieced) Snapshot() (store.HistorySnapshot, error) {
	p.held.Add(1)
	return &piecedSnapshot{&pastSnapshot{past: &p.past, rows: p.rows}, p}, nil
}

func (s *piecedSnapshot) Pieces() int { return len(s.rows) }

func (s *piecedSnapshot) Piece(i int) []store.MessageRow {
	s.of.made.Add(1)
	return s.rows[i]
}

func TestRowsInMemoryAreMadeAsTheyAreRead(t *testing.T) {
	p := &pieced{}
	db := openAt(t, t.TempDir(), func(c *duckdb.Config) { c.History = p })
	rows := history(100_000)
	p.rows = append(p.rows, nil)
	for at := 0; at < len(rows); at += 1000 {
		p.rows = append(p.rows, rows[at:min(at+1000, len(rows))])
	}
	wantRows(t, db, `SELECT count(*) FROM device_messages`, fmt.Sprint(len(rows)))
	if n := p.made.Load(); int(n) != len(p.rows) {
		t.Errorf("%d runs were made, want %d", n, len(p.rows))
	}
	wantRows(t, db, `SELECT count(*) FROM device_messages a JOIN device_messages b USING (message_id) WHERE a.message_id = 'id-3'`, "1")
	p.made.Store(0)
	wantRows(t, db, `SELECT tenant FROM device_messages LIMIT 1`, "default")
	if n := p.made.Load(); n > 20 {
		t.Errorf("%d runs were made for one row", n)
	}
}

func TestHistoryIsReleasedWhateverHappens(t *testing.T) {
	db, p, _ := openWithPast(t)
	p.rows = [][]store.MessageRow{history(10)}
	for _, sql := range []string{`SELECT * FROM device_messages`, `SELEC`, `DROP TABLE logs`, `SELECT nothing FROM device_messages`, `SELECT error('x') FROM device_messages`} {
		_, err := rowsOf(t, db, answer.Request{SQL: sql})
		if n := p.held.Load(); n != 0 {
			t.Errorf("%s (%v): %d snapshots are held", sql, err, n)
		}
	}
	p.files = []string{"/nowhere/x.parquet"}
	if _, err := rowsOf(t, db, answer.Request{SQL: `SELECT * FROM archive`}); err == nil {
		t.Error("a file outside the archive is read")
	}
	p.files = nil
	wantRows(t, db, `SELECT count(*) FROM archive`, "0")
}

func BenchmarkRecentRows(b *testing.B) {
	dir := b.TempDir()
	rows := make([]store.MessageRow, 200_000)
	for i := range rows {
		rows[i] = storetest.Message(i)
	}
	db, err := duckdb.Open(b.Context(), duckdb.Config{Path: filepath.Join(dir, "x.duckdb"), History: &past{rows: [][]store.MessageRow{rows}}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, c := range []struct{ name, sql string }{
		{"count", `SELECT count(*) FROM device_messages`},
		{"one numeric column", `SELECT sum(value) FROM device_messages`},
		{"device, time and value", `SELECT device_id, max(event_time), sum(value) FROM device_messages GROUP BY 1`},
		{"all columns", `SELECT count(*), ` + allMax() + ` FROM device_messages`},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r, err := db.Query(b.Context(), answer.Request{SQL: c.sql})
				if err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
			b.ReportMetric(float64(b.N)*float64(len(rows))/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func allMax() string {
	var s string
	for i, c := range store.HistoryColumns() {
		if i > 0 {
			s += ", "
		}
		s += "max(" + c.Name + ")"
	}
	return s
}
