package standalone

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
	historywriter "github.com/millrace/millrace/services/history-writer"
	"github.com/millrace/millrace/services/standalone/internal/damage"
	"github.com/millrace/millrace/services/standalone/internal/scan"
)

const rebuildRest = time.Minute // between two attempts, and between looks for files that were set aside

// foundInHistory notes what history found damaged.
func (p *plant) foundInHistory(f parquet.Finding) {
	e := damage.Entry{Kind: damage.History, Path: f.Path, What: f.What, Lost: f.Lost, Aside: f.Aside}
	if f.Manifest {
		e.Kind = damage.Manifest
	}
	if f.Aside != "" {
		e.Aside = filepath.Dir(f.Aside)
	}
	p.book.Take(e)
	select {
	case p.setAside <- struct{}{}:
	default: // it will look anyway
	}
}

// rebuild makes again what was lost of the stores, from the log and from history, while everything else runs.
func (p *plant) rebuild(ctx context.Context) error {
	for {
		err := p.rebuildState(ctx)
		if err == nil {
			err = p.restoreHistory(ctx)
		}
		if err != nil && ctx.Err() == nil {
			p.log.Error("what was damaged is not yet made again; it is tried again", "error", err)
		}
		pause := time.NewTimer(rebuildRest)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-p.setAside:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// restoreHistory puts the rows of files that were set aside back, as far as the log has their messages.
func (p *plant) restoreHistory(ctx context.Context) error {
	if p.cfg.Stores.History != stores.Embedded || p.history == nil {
		return nil
	}
	r, err := p.history.Restore(ctx)
	if err != nil || r == nil {
		return err
	}
	for _, topic := range []string{bus.Telemetry, bus.Events} {
		for n := range p.bus.Partitions(topic) {
			id := bus.PartitionID{Topic: topic, Number: n}
			if err := p.restoreFrom(ctx, r, id); err != nil {
				return fmt.Errorf("restore history from %v: %w", id, err)
			}
		}
	}
	done, err := r.Done(ctx)
	for _, d := range done {
		p.log.Warn("history: the rows of a damaged file were looked for on the log", "file", d.String())
	}
	return err
}

// restoreFrom gives the Restorer every message of a partition that the files must have.
func (p *plant) restoreFrom(ctx context.Context, r *parquet.Restorer, id bus.PartitionID) error {
	through := r.Covered(historywriter.Worker, id)
	if through.IsZero() {
		return nil
	}
	part, err := p.bus.Partition(ctx, id)
	if err != nil {
		return err
	}
	end, err := part.End(ctx)
	if err != nil {
		return err
	}
	if end.Compare(through) < 0 {
		through = end // the log has lost its end
	}
	if first, err := p.beginning(ctx, id); err != nil || first > through.Seq {
		return err // nothing of it is left to read, and waiting for more would be for ever
	}
	var row store.MessageRow
	for batch, err := range part.After(ctx, bus.Start{}) {
		if err != nil {
			return err
		}
		for i := range batch.Records {
			rec := &batch.Records[i]
			if rec.Position.Compare(through) > 0 {
				return nil
			}
			if err := historywriter.Row(&row, *rec); err != nil {
				continue // it is a dead letter
			}
			if err := r.Add(ctx, &row); err != nil {
				return err
			}
		}
		if batch.Last().Compare(through) >= 0 {
			return nil
		}
	}
	return ctx.Err()
}

// beginning returns the first sequence that an embedded log still has; 1 where it is elsewhere.
func (p *plant) beginning(ctx context.Context, id bus.PartitionID) (uint64, error) {
	if l, ok := p.bus.(interface {
		Begins(ctx context.Context, id bus.PartitionID) (uint64, time.Time, error)
	}); ok {
		first, _, err := l.Begins(ctx, id)
		return first, err
	}
	return 1, nil
}

// stateFromHistory is a worker by name only: it writes the latest values that history knows, once, beside the state-projector.
const stateFromHistory = "state-from-history"

// rebuildState makes the latest values of devices again that the log no longer has, from history. The newest counts, so it does not matter
// what the state-projector writes meanwhile.
func (p *plant) rebuildState(ctx context.Context) error {
	m := p.found.mended
	if p.found.stateDone || m == nil || !slices.Contains(m.Lost, "state") || p.keep.state == nil {
		return nil
	}
	const newest = `SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, epoch_ns(event_time), epoch_ns(ingest_time),
		message_id, kind, origin_partition, origin_position FROM history WHERE kind IN ('channel', 'event')
		QUALIFY row_number() OVER (PARTITION BY tenant, device_id, channel_key ORDER BY event_time DESC, origin_partition DESC, origin_position DESC) = 1`
	id := bus.PartitionID{Topic: stateFromHistory}
	before, _, err := p.keep.state.Progress(ctx, stateFromHistory, id)
	if err != nil {
		return err
	}
	seq := before.Through.Seq
	var rows []store.MessageRow
	write := func() error {
		commit := store.Commit{Worker: stateFromHistory, Spans: []store.Span{{
			Partition: id, After: bus.Position{Seq: seq}, Through: bus.Progress{Through: bus.Position{Seq: seq + 1}},
		}}}
		if err := p.keep.state.Write(ctx, commit, rows); err != nil {
			return err
		}
		seq, rows = seq+1, rows[:0]
		return nil
	}
	const batch = 10_000
	total := 0
	for values, err := range scan.Query(ctx, p.db, newest) {
		if err == nil {
			rows, err = appendNewest(rows, values)
		}
		if err == nil && len(rows) >= batch {
			err = write()
		}
		if err != nil {
			return fmt.Errorf("latest state from history: %w", err)
		}
		total++
	}
	if err := write(); err != nil {
		return fmt.Errorf("latest state from history: %w", err)
	}
	p.found.stateDone = true
	p.log.Warn("the latest values of devices were made again from history", "channels", total)
	return nil
}

var errColumns = errors.New("history has other columns than those asked for")

func appendNewest(rows []store.MessageRow, v []any) ([]store.MessageRow, error) {
	var texts [8]string
	for i, at := range []int{0, 1, 2, 3, 4, 5, 9, 10} {
		s, ok := v[at].(string)
		if !ok && v[at] != nil {
			return rows, fmt.Errorf("%w: column %d is %T", errColumns, at, v[at])
		}
		texts[i] = s
	}
	event, ok1 := v[7].(int64)
	ingest, ok2 := v[8].(int64)
	partition, ok3 := v[11].(int32)
	position, ok4 := v[12].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return rows, fmt.Errorf("%w: %v", errColumns, v)
	}
	m := store.MessageRow{Origin: bus.Origin{Partition: partition, Position: store.UnpackPosition(position)}}
	m.Tenant, m.DeviceID, m.DeviceType, m.ChannelKey, m.ChannelType = texts[0], texts[1], texts[2], texts[3], texts[4]
	m.ChannelValue, m.MessageID = []byte(texts[5]), texts[6]
	m.EventTime, m.IngestTime, m.Kind = telemetry.Time(event), telemetry.Time(ingest), telemetry.KindChannel
	if texts[7] == store.KindName(telemetry.KindEvent) {
		m.Kind = telemetry.KindEvent
	}
	if number, ok := v[6].(float64); ok && !math.IsNaN(number) {
		m.Value, m.HasValue = number, true
	}
	return append(rows, m), nil
}
