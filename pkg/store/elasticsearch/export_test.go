package elasticsearch

import (
	"context"

	"github.com/millrace/millrace/pkg/store"
)

// Call makes a request of the test's own.
func (db *DB) Call(ctx context.Context, method, path string, body, out any) error {
	return db.client.call(ctx, method, path, body, out)
}

// Prefix returns what the names of this store begin with.
func (db *DB) Prefix() string { return db.cfg.Prefix }

// Sweep deletes what crashes left.
func (db *DB) Sweep(ctx context.Context) error { return db.sweep(ctx) }

// EncodeLogs returns the documents of rows.
func EncodeLogs(rows []store.MessageRow) [][]byte {
	docs := make([][]byte, len(rows))
	for i := range rows {
		doc := closeDocument(appendLog([]byte{'{'}, &rows[i]))
		docs[i] = doc[:len(doc)-1]
	}
	return docs
}
