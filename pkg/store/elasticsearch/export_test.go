package elasticsearch

import "context"

// Call makes a request of the test's own.
func (db *DB) Call(ctx context.Context, method, path string, body, out any) error {
	return db.client.call(ctx, method, path, body, out)
}

// Prefix returns what the names of this store begin with.
func (db *DB) Prefix() string { return db.cfg.Prefix }

// Sweep deletes what crashes left.
func (db *DB) Sweep(ctx context.Context) error { return db.sweep(ctx) }
