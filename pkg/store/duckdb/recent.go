package duckdb

import (
	"context"
	"database/sql"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// recentRows is the table function that yields the rows of history that are in no file yet. It takes the snapshot from the
// context of the query that calls it, so that one function serves all connections; without one it yields nothing.
const recentRows = "millrace_recent_rows"

type snapshotKey struct{}

func registerRecent(c *sql.Conn) error {
	columns := store.HistoryColumns()
	infos := make([]duckdb.ColumnInfo, len(columns))
	for i, col := range columns {
		t, err := duckdb.NewTypeInfo(duckType(col.Type))
		if err != nil {
			return err
		}
		infos[i] = duckdb.ColumnInfo{Name: col.Name, T: t}
	}
	return duckdb.RegisterTableUDF(c, recentRows, duckdb.ChunkTableFunction{
		BindArgumentsContext: func(ctx context.Context, _ map[string]any, _ ...any) (duckdb.ChunkTableSource, error) {
			snapshot, _ := ctx.Value(snapshotKey{}).(store.HistorySnapshot)
			return &recent{columns: infos, snapshot: snapshot}, nil
		},
	})
}

func duckType(t store.ColumnType) duckdb.Type {
	switch t {
	case store.Double:
		return duckdb.TYPE_DOUBLE
	case store.Integer:
		return duckdb.TYPE_INTEGER
	case store.Bigint:
		return duckdb.TYPE_BIGINT
	case store.TimestampNS:
		return duckdb.TYPE_TIMESTAMP_NS
	case store.Varchar:
	}
	return duckdb.TYPE_VARCHAR
}

// recent is one scan of the newest rows, by one thread.
type recent struct {
	columns  []duckdb.ColumnInfo
	snapshot store.HistorySnapshot // nil: no rows
	runs     [][]store.MessageRow  // what is still to be yielded
	pieces   pieces                // what makes more of them; nil where runs is all
	next     int                   // the piece to be made next
	wanted   []bool                // by column; known with the first chunk
	text     []byte                // scratch
}

// pieces is a snapshot that makes its runs one by one: a scan then holds one of them instead of all, which are several times what
// the snapshot itself takes.
type pieces interface {
	Pieces() int
	Piece(i int) []store.MessageRow
}

// ColumnInfos implements duckdb.ChunkTableSource.
func (r *recent) ColumnInfos() []duckdb.ColumnInfo { return r.columns }

// Cardinality implements duckdb.ChunkTableSource.
func (r *recent) Cardinality() *duckdb.CardinalityInfo {
	if r.snapshot == nil {
		return &duckdb.CardinalityInfo{}
	}
	return &duckdb.CardinalityInfo{Cardinality: uint(max(r.snapshot.RowCount(), 0))}
}

// Init implements duckdb.ChunkTableSource.
func (r *recent) Init() {
	r.runs, r.wanted, r.next = nil, nil, 0
	if r.snapshot == nil {
		return
	}
	var ok bool
	if r.pieces, ok = r.snapshot.(pieces); ok {
		return
	}
	r.snapshot.Rows(func(run []store.MessageRow) bool {
		r.runs = append(r.runs, run)
		return true
	})
}

// FillChunk implements duckdb.ChunkTableSource.
func (r *recent) FillChunk(chunk duckdb.DataChunk) error {
	if r.wanted == nil {
		r.findWanted(chunk)
	}
	n, most := 0, duckdb.GetDataChunkCapacity()
	for n < most && r.more() {
		run := r.runs[0][:min(len(r.runs[0]), most-n)]
		for col, wanted := range r.wanted {
			if !wanted {
				continue
			}
			if err := r.fillColumn(chunk, col, n, run); err != nil {
				return err
			}
		}
		n += len(run)
		if r.runs[0] = r.runs[0][len(run):]; len(r.runs[0]) == 0 {
			r.runs = r.runs[1:]
		}
	}
	return chunk.SetSize(n)
}

// more reports whether a run is left, which it makes where it must.
func (r *recent) more() bool {
	if len(r.runs) == 0 && r.pieces != nil && r.next < r.pieces.Pieces() {
		r.runs = append(r.runs[:0], r.pieces.Piece(r.next))
		r.next++
	}
	return len(r.runs) > 0
}

// findWanted learns which columns the query reads: a value of no type is an error in such a column, and ignored in another.
func (r *recent) findWanted(chunk duckdb.DataChunk) {
	type none struct{}
	r.wanted = make([]bool, len(r.columns))
	for col := range r.columns {
		r.wanted[col] = chunk.SetValue(col, 0, none{}) != nil
	}
}

// fillColumn writes a run of rows into one column, from row at on. The columns are those of store.HistoryColumns.
func (r *recent) fillColumn(chunk duckdb.DataChunk, col, at int, run []store.MessageRow) error {
	for i := range run {
		if err := r.set(chunk, col, at+i, &run[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *recent) set(chunk duckdb.DataChunk, col, row int, m *store.MessageRow) error {
	switch col {
	case 0:
		return setText(chunk, col, row, m.Tenant)
	case 1:
		return setText(chunk, col, row, m.DeviceID)
	case 2:
		return setText(chunk, col, row, m.DeviceType)
	case 3:
		return setText(chunk, col, row, m.ChannelKey)
	case 4:
		return setText(chunk, col, row, m.ChannelType)
	case 5:
		return duckdb.SetChunkValue(chunk, col, row, textOf(m.ChannelValue))
	case 6:
		if !m.HasValue {
			return chunk.SetValue(col, row, nil)
		}
		return duckdb.SetChunkValue(chunk, col, row, m.Value)
	case 7:
		return setTime(chunk, col, row, m.EventTime)
	case 8:
		return setTime(chunk, col, row, m.IngestTime)
	case 9:
		return setText(chunk, col, row, m.MessageID)
	}
	return r.setMore(chunk, col, row, m)
}

// setMore is set for the columns that queries seldom read.
func (r *recent) setMore(chunk duckdb.DataChunk, col, row int, m *store.MessageRow) error {
	switch col {
	case 10:
		return setText(chunk, col, row, store.KindName(m.Kind))
	case 11:
		if m.DeviceTime == 0 {
			return chunk.SetValue(col, row, nil)
		}
		return setTime(chunk, col, row, m.DeviceTime)
	case 12:
		r.text = store.AppendProperties(r.text[:0], m.Properties)
		return setJSON(chunk, col, row, r.text)
	case 13:
		return setJSON(chunk, col, row, m.Attributes)
	case 14:
		return setText(chunk, col, row, m.Source)
	case 15:
		return setText(chunk, col, row, m.Credential)
	case 16:
		return setText(chunk, col, row, m.Codec)
	case 17:
		return duckdb.SetChunkValue(chunk, col, row, m.Origin.Partition)
	case 18:
		position, err := store.PackPosition(m.Origin.Position)
		if err != nil {
			return err
		}
		return duckdb.SetChunkValue(chunk, col, row, position)
	}
	return nil
}

func setText(chunk duckdb.DataChunk, col, row int, s string) error {
	return duckdb.SetChunkValue(chunk, col, row, text(s))
}

func setJSON(chunk duckdb.DataChunk, col, row int, b []byte) error {
	if len(b) == 0 {
		return chunk.SetValue(col, row, nil)
	}
	return duckdb.SetChunkValue(chunk, col, row, textOf(b))
}

func setTime(chunk duckdb.DataChunk, col, row int, t telemetry.Time) error {
	return duckdb.SetChunkValue[time.Time](chunk, col, row, t.Std())
}
