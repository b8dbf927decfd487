package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
)

// tx is a transaction under way on the lane's connection.
type tx struct {
	ctx  context.Context //nolint:containedctx // a transaction lives within one call
	conn *sql.Conn
}

func (t *tx) exec(query string, args ...any) error {
	_, err := t.conn.ExecContext(t.ctx, query, args...)
	return err
}

// raw calls f with the driver's connection, as appenders want it.
func (t *tx) raw(f func(c driver.Conn) error) error {
	return t.conn.Raw(func(c any) error {
		dc, ok := c.(driver.Conn)
		if !ok {
			return fmt.Errorf("%T is no connection", c)
		}
		return f(dc)
	})
}

// transact runs f in a transaction. After an error nothing of it is there, unless the commit itself failed; then the lane is stale and
// reads what is stored before it does anything else.
func (l *lane) transact(ctx context.Context, f func(tx *tx) error) error {
	// The two statements are not cut short: BEGIN costs nothing, and a commit whose outcome is unknown costs a reload.
	calm := context.WithoutCancel(ctx)
	if _, err := l.conn.ExecContext(calm, `BEGIN TRANSACTION`); err != nil {
		l.stale = true
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(&tx{ctx: ctx, conn: l.conn}); err != nil {
		if _, rollback := l.conn.ExecContext(calm, `ROLLBACK`); rollback != nil {
			l.stale = true
		}
		return err
	}
	if _, err := l.conn.ExecContext(calm, `COMMIT`); err != nil {
		l.stale = true
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
