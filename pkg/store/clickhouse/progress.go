package clickhouse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

const (
	kindProgress   = "progress"
	kindCheckpoint = "checkpoint"
)

func progressColumns() []columnType {
	return []columnType{
		{"store", "String"},
		{"worker", "String"},
		{"kind", "String"},
		{"name", "String"},
		{"partition", "Int32"},
		{"version", "UInt64"},
		{"through", "String"},
		{"body", "String"},
	}
}

// writeProgress inserts the progress of the spans, and the checkpoint, as one block of one partition of the table: ClickHouse keeps all of
// it or nothing.
func (l *lane) writeProgress(ctx context.Context, w *writing, marks []*mark) error {
	var b progressBlock
	for i, s := range w.commit.Spans {
		have := marks[i]
		if have.written && have.progress.Through == s.Through.Through && slices.Equal(have.progress.Origins, s.Through.Origins) {
			continue // of a state that covers it although nothing came
		}
		b.add(l.name, w.commit.Worker, kindProgress, s.Partition.Topic, int32(s.Partition.Number), //nolint:gosec // a partition's number
			uint64(w.packed[i]), s.Through.Through.String(), string(s.Through.AppendBinary(nil))) //nolint:gosec // not negative
	}
	if w.commit.Checkpoint != nil {
		body := make([]byte, 0, len(w.commit.Checkpoint)+4)
		body = binary.BigEndian.AppendUint32(body, crc32.ChecksumIEEE(w.commit.Checkpoint))
		body = append(body, w.commit.Checkpoint...)
		b.add(l.name, w.commit.Worker, kindCheckpoint, w.commit.Task, 0, w.version, covers(w.commit.Spans), alias(body))
	}
	if len(b.stores) == 0 {
		return nil
	}
	return l.db.insert(ctx, "progress", progressColumns(), "", b.columns())
}

type progressBlock struct {
	stores, workers, kinds, names []string
	partitions                    []int32
	versions                      []uint64
	through, bodies               []string
}

func (b *progressBlock) add(store, worker, kind, name string, partition int32, version uint64, through, body string) {
	b.stores, b.workers, b.kinds, b.names = append(b.stores, store), append(b.workers, worker), append(b.kinds, kind), append(b.names, name)
	b.partitions, b.versions = append(b.partitions, partition), append(b.versions, version)
	b.through, b.bodies = append(b.through, through), append(b.bodies, body)
}

func (b *progressBlock) columns() []any {
	return []any{b.stores, b.workers, b.kinds, b.names, b.partitions, b.versions, b.through, b.bodies}
}

// covers writes the positions that a checkpoint covers, as "telemetry[3] 81.5, …".
func covers(spans []store.Span) string {
	var s strings.Builder
	for i, span := range spans {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(span.Partition.String() + " " + span.Through.Through.String())
	}
	return s.String()
}

// readMarks reads the progress of the spans' partitions into marks, which are beside them.
func (l *lane) readMarks(ctx context.Context, worker string, spans []store.Span, marks []*mark) error {
	keys := make([]string, len(spans))
	for i, s := range spans {
		keys[i] = fmt.Sprintf("(%s, %d)", quote(s.Partition.Topic), s.Partition.Number)
	}
	rows, err := l.db.query(ctx, "SELECT name, partition, body FROM "+l.db.cfg.internal()+".progress FINAL WHERE store = "+quote(l.name)+
		" AND worker = "+quote(worker)+" AND kind = '"+kindProgress+"' AND (name, partition) IN ("+strings.Join(keys, ", ")+")")
	if err != nil {
		return err
	}
	found := make(map[bus.PartitionID]bus.Progress, len(spans))
	for rows.Next() {
		var topic, body string
		var partition int32
		if err := rows.Scan(&topic, &partition, &body); err != nil {
			return errors.Join(err, rows.Close())
		}
		id := bus.PartitionID{Topic: topic, Number: int(partition)}
		p, err := bus.ParseProgress([]byte(body))
		if err != nil {
			return errors.Join(fmt.Errorf("%s of %v: %w", worker, id, err), rows.Close())
		}
		found[id] = p
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for i, s := range spans {
		marks[i].progress, marks[i].written = found[s.Partition]
		marks[i].known = true
	}
	return nil
}

// Checkpoint implements store.Checkpoints. It returns ErrFenced when another owner has written since this process read the progress
// of what the checkpoint covers: state and place to read on from would not fit together.
func (l *lane) Checkpoint(ctx context.Context, worker, task string) (state []byte, ok bool, err error) {
	ctx, cancel := l.db.bounded(ctx)
	defer cancel()
	fail := func(err error) ([]byte, bool, error) {
		return nil, false, fmt.Errorf("checkpoint of %s %s: %w", worker, task, err)
	}
	rows, err := l.db.query(ctx, "SELECT through, body FROM "+l.db.cfg.internal()+".progress FINAL WHERE store = "+quote(l.name)+
		" AND worker = "+quote(worker)+" AND kind = '"+kindCheckpoint+"' AND name = "+quote(task))
	if err != nil {
		return fail(err)
	}
	var covered, body string
	for rows.Next() {
		ok = true
		err = errors.Join(err, rows.Scan(&covered, &body))
	}
	if err := errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return fail(err)
	}
	if !ok {
		return nil, false, nil
	}
	if err := l.fits(ctx, worker, covered); err != nil {
		return fail(err)
	}
	if len(body) < 4 {
		return fail(fmt.Errorf("%d bytes: damaged", len(body)))
	}
	want := binary.BigEndian.Uint32([]byte(body[:4]))
	state = []byte(body[4:])
	if got := crc32.ChecksumIEEE(state); got != want {
		return fail(fmt.Errorf("checksum %08x, want %08x: damaged", got, want))
	}
	return state, true, nil
}

// fits compares what a checkpoint covers with the progress that this process has read, where it has.
func (l *lane) fits(ctx context.Context, worker, covered string) error {
	for part := range strings.SplitSeq(covered, ", ") {
		id, at, err := parseCover(part)
		if err != nil {
			return err
		}
		m := l.mark(worker, id)
		select {
		case m.busy <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		ahead := m.known && (!m.written || m.progress.Through.Compare(at) < 0)
		have := m.progress.Through
		<-m.busy
		if ahead {
			return fmt.Errorf("it covers %s, the progress that was read ends at %v: %w", part, have, store.ErrFenced)
		}
	}
	return nil
}

// parseCover reads one part of what covers wrote.
func parseCover(s string) (id bus.PartitionID, at bus.Position, err error) {
	name, position, ok := strings.Cut(s, "] ")
	bracket := strings.LastIndexByte(name, '[')
	if !ok || bracket < 0 {
		return id, at, fmt.Errorf("covers %q, want topic[partition] position", s)
	}
	id.Topic = name[:bracket]
	if _, err := fmt.Sscanf(name[bracket+1:], "%d", &id.Number); err != nil {
		return id, at, fmt.Errorf("covers %q: %w", s, err)
	}
	at, err = bus.ParsePosition(position)
	return id, at, err
}
