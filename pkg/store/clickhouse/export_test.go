package clickhouse

import (
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/store"
)

// Conn is the client library's connection, for benchmarks beside it.
func (db *DB) Conn() driver.Conn { return db.conn }

// HistoryBlock returns the names of history's columns and rows as the slices that are sent.
func HistoryBlock(rows []store.MessageRow) (columns []string, values []any) {
	w, b := &writing{}, &messageBlock{}
	w.hash.Reset()
	for i := range rows {
		b.add(w, &rows[i])
		b.addValue(&rows[i])
		b.addRest(&rows[i])
	}
	for _, c := range historyColumns() {
		columns = append(columns, c.name)
	}
	return columns, b.history()
}
