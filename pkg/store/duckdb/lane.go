package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// lane is one store's way into the database: a connection of its own, one write at a time, and the progress of the workers
// that write there. Stores share no table, so transactions of different lanes never conflict; and what a store keeps in memory
// (progress, keys) is the truth, since no other process can have the file open.
type lane struct {
	db   *DB
	name string
	// load, if set, reads what the store keeps in memory from the database, dropping what it has.
	load        func(ctx context.Context, c *sql.Conn) error
	checkpoints bool // whether it has a table of checkpoints

	mu       sync.Mutex
	conn     *sql.Conn // nil when broken or closed
	stale    bool      // a commit ended with an error: memory may not be what the database has
	closed   bool
	progress map[progressKey]bus.Progress
	saved    map[taskKey]savedCheckpoint
	fileNo   uint64 // the last number used in a checkpoint's file name
}

type progressKey struct {
	worker    string
	partition bus.PartitionID
}

var errClosed = errors.New("the database is closed")

func newLane(db *DB, name string, checkpoints bool) *lane {
	return &lane{db: db, name: name, checkpoints: checkpoints}
}

func (l *lane) open(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready(ctx)
}

// ready makes sure that there is a connection and that memory is what the database has. l.mu is held.
func (l *lane) ready(ctx context.Context) error {
	if l.closed {
		return errClosed
	}
	if l.conn != nil && !l.stale {
		return nil
	}
	if l.conn != nil {
		_ = l.conn.Close() // broken; what matters is whether a new one works
	}
	var err error
	if l.conn, err = l.db.pool.Conn(ctx); err != nil {
		l.conn = nil
		return err
	}
	l.stale = true
	if err := l.reload(ctx); err != nil {
		return fmt.Errorf("read what is stored: %w", err)
	}
	l.stale = false
	return nil
}

func (l *lane) reload(ctx context.Context) error {
	if err := l.loadProgress(ctx); err != nil {
		return err
	}
	if l.checkpoints {
		if err := l.loadCheckpoints(ctx); err != nil {
			return err
		}
	}
	if l.load == nil {
		return nil
	}
	return l.load(ctx, l.conn)
}

func (l *lane) loadProgress(ctx context.Context) error {
	query := `SELECT worker, topic, partition, progress FROM internal.progress_` + l.name //nolint:gosec // the lane's name is a constant of ours
	rows, err := l.conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	l.progress = make(map[progressKey]bus.Progress)
	for rows.Next() {
		var key progressKey
		var blob []byte
		if err := rows.Scan(&key.worker, &key.partition.Topic, &key.partition.Number, &blob); err != nil {
			return err
		}
		p, err := bus.ParseProgress(blob)
		if err != nil {
			return fmt.Errorf("%s of %v: %w", key.worker, key.partition, err)
		}
		l.progress[key] = p
	}
	return rows.Err()
}

// Progress implements store.Writer.
func (l *lane) Progress(ctx context.Context, worker string, p bus.PartitionID) (progress bus.Progress, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(ctx); err != nil {
		return bus.Progress{}, false, fmt.Errorf("progress of %s in %s: %w", worker, l.name, err)
	}
	progress, ok = l.progress[progressKey{worker, p}]
	return progress.Clone(), ok, nil
}

// write runs fill in a transaction together with commit's progress and checkpoint, unless commit is already there. then is called after
// the transaction, with whether it is on disk; memory is changed there and not before.
func (l *lane) write(ctx context.Context, commit store.Commit, fill func(tx *tx) error, then func(done bool)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(ctx); err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	if commit.Checkpoint != nil && !l.checkpoints {
		return fmt.Errorf("write %s: it keeps no checkpoints", l.name)
	}
	there, err := l.fence(commit)
	if err != nil || there {
		return err
	}
	defer l.logSlow(commit)()
	var saved *savedCheckpoint
	err = l.transact(ctx, func(tx *tx) error {
		if err := fill(tx); err != nil {
			return err
		}
		var err error
		if saved, err = l.saveCheckpoint(tx, commit); err != nil {
			return err
		}
		return l.saveProgress(tx, commit)
	})
	if then != nil {
		then(err == nil)
	}
	if err != nil {
		l.dropCheckpoint(saved)
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	for _, s := range commit.Spans {
		l.progress[progressKey{commit.Worker, s.Partition}] = s.Through.Clone()
	}
	l.keepCheckpoint(commit, saved)
	return nil
}

// slowWrite is how long a write takes before it is worth a line: a checkpoint of the write-ahead log takes less.
const slowWrite = time.Second

// logSlow returns what is called when the write is done.
func (l *lane) logSlow(commit store.Commit) func() {
	if l.db.cfg.Now == nil {
		return func() {}
	}
	start := l.db.cfg.Now()
	return func() {
		if took := l.db.cfg.Now().Sub(start); took >= slowWrite {
			l.db.cfg.Log.Warn("a write was slow", "store", l.name, "worker", commit.Worker, "took", took)
		}
	}
}

// fence compares commit with the stored progress: there says that it was written before, ErrFenced that another came between.
func (l *lane) fence(commit store.Commit) (there bool, err error) {
	there, err = store.Fence(commit.Spans, func(p bus.PartitionID) (bus.Progress, bool) {
		have, ok := l.progress[progressKey{commit.Worker, p}]
		return have, ok
	})
	if err != nil {
		return false, fmt.Errorf("write %s: %w", l.name, err)
	}
	return there, nil
}

func (l *lane) saveProgress(tx *tx, commit store.Commit) error {
	for _, s := range commit.Spans {
		have, known := l.progress[progressKey{commit.Worker, s.Partition}]
		if known && have.Through == s.Through.Through && slices.Equal(have.Origins, s.Through.Origins) {
			continue // of a state that covers it although nothing came; a statement costs about a millisecond
		}
		through, blob := s.Through.Through.String(), s.Through.AppendBinary(nil)
		query := `INSERT INTO internal.progress_` + l.name + ` (through, progress, worker, topic, partition) VALUES (?, ?, ?, ?, ?)`
		if known {
			query = `UPDATE internal.progress_` + l.name + ` SET through = ?, progress = ? WHERE worker = ? AND topic = ? AND partition = ?`
		}
		if err := tx.exec(query, through, blob, commit.Worker, s.Partition.Topic, s.Partition.Number); err != nil {
			return fmt.Errorf("progress of %v: %w", s.Partition, err)
		}
	}
	return nil
}

func (l *lane) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}
