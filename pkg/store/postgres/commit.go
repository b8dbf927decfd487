package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// errRaced says that another wrote the first progress of a partition at the same moment: the repetition of the write learns which.
var errRaced = errors.New("another writer has begun on the same partition")

// errDone ends a transaction whose commit is stored already.
var errDone = errors.New("stored already")

// commit runs what rows queues in a transaction with c's progress and checkpoint, unless c is already there. A transaction is four
// round trips, whatever its rows and spans.
func (db *DB) commit(ctx context.Context, c store.Commit, rows func(b *pgx.Batch)) error {
	err := pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		stored, err := db.lockProgress(ctx, tx, c)
		if err != nil {
			return err
		}
		there, err := store.Fence(c.Spans, func(p bus.PartitionID) (bus.Progress, bool) { have, ok := stored[p]; return have, ok })
		if err != nil {
			return err
		}
		if there {
			return errDone
		}
		return db.send(ctx, tx, c, stored, rows)
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// lockProgress reads the progress of c's partitions and holds it until the transaction ends, always in the same order.
func (db *DB) lockProgress(ctx context.Context, tx pgx.Tx, c store.Commit) (map[bus.PartitionID]bus.Progress, error) {
	spans := slices.SortedFunc(slices.Values(c.Spans), func(a, b store.Span) int {
		return cmp.Or(cmp.Compare(a.Partition.Topic, b.Partition.Topic), cmp.Compare(a.Partition.Number, b.Partition.Number))
	})
	topics, numbers := make([]string, len(spans)), make([]int32, len(spans))
	for i, s := range spans {
		topics[i], numbers[i] = s.Partition.Topic, int32(s.Partition.Number) //nolint:gosec // partitions are few
	}
	stored := make(map[bus.PartitionID]bus.Progress, len(spans))
	b := &pgx.Batch{}
	// For whoever has it off: what Write returns nil for is on disk.
	b.Queue(`SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`)
	b.Queue(`SELECT topic, partition, progress FROM `+db.schema+`.progress_alarms
		WHERE worker = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::integer[]))
		ORDER BY topic, partition FOR UPDATE`, c.Worker, topics, numbers).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var p bus.PartitionID
			var blob []byte
			if err := rows.Scan(&p.Topic, &p.Number, &blob); err != nil {
				return err
			}
			progress, err := bus.ParseProgress(blob)
			if err != nil {
				return fmt.Errorf("%s of %v: %w", c.Worker, p, err)
			}
			stored[p] = progress
		}
		return rows.Err()
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("progress: %w", err)
	}
	return stored, nil
}

// send writes the rows, the checkpoint and the progress, in one round trip.
func (db *DB) send(ctx context.Context, tx pgx.Tx, c store.Commit, stored map[bus.PartitionID]bus.Progress, rows func(b *pgx.Batch)) error {
	b := &pgx.Batch{}
	rows(b)
	if c.Checkpoint != nil {
		b.Queue(`INSERT INTO `+db.schema+`.checkpoints_alarms (worker, task, state) VALUES ($1, $2, $3)
			ON CONFLICT (worker, task) DO UPDATE SET state = excluded.state`, c.Worker, c.Task, c.Checkpoint)
	}
	for _, s := range c.Spans {
		have, known := stored[s.Partition]
		if known && have.Through == s.Through.Through && slices.Equal(have.Origins, s.Through.Origins) {
			continue // of a state that covers it although nothing came
		}
		statement := `INSERT INTO ` + db.schema + `.progress_alarms (worker, topic, partition, through, progress) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT DO NOTHING`
		if known {
			statement = `UPDATE ` + db.schema + `.progress_alarms SET through = $4, progress = $5 WHERE worker = $1 AND topic = $2 AND partition = $3`
		}
		b.Queue(statement, c.Worker, s.Partition.Topic, s.Partition.Number, s.Through.Through.String(), s.Through.AppendBinary(nil)).
			Exec(func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() != 1 {
					return fmt.Errorf("progress of %v: %w", s.Partition, errRaced)
				}
				return nil
			})
	}
	return tx.SendBatch(ctx, b).Close()
}

// Progress implements store.Writer.
func (s *alarmStore) Progress(ctx context.Context, worker string, p bus.PartitionID) (progress bus.Progress, ok bool, err error) {
	blob, ok, err := s.db.blob(ctx, `SELECT progress FROM `+s.db.schema+`.progress_alarms WHERE worker = $1 AND topic = $2 AND partition = $3`,
		worker, p.Topic, p.Number)
	if err == nil && ok {
		progress, err = bus.ParseProgress(blob)
	}
	if err != nil {
		return bus.Progress{}, false, fmt.Errorf("progress of %s on %v: %w", worker, p, err)
	}
	return progress, ok, nil
}

// Checkpoint implements store.Checkpoints.
func (s *alarmStore) Checkpoint(ctx context.Context, worker, task string) (state []byte, ok bool, err error) {
	state, ok, err = s.db.blob(ctx, `SELECT state FROM `+s.db.schema+`.checkpoints_alarms WHERE worker = $1 AND task = $2`, worker, task)
	if err != nil {
		return nil, false, fmt.Errorf("checkpoint of %s %s: %w", worker, task, err)
	}
	return state, ok, nil
}

// blob returns the one value of the one row that a query finds.
func (db *DB) blob(ctx context.Context, query string, args ...any) (blob []byte, ok bool, err error) {
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	err = db.pool.QueryRow(ctx, query, args...).Scan(&blob)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	return blob, err == nil, err
}
