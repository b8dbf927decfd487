package clickhouse

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// aggregateStore keeps aggregates, and their states in a table beside them.
type aggregateStore struct{ *lane }

// Write implements store.Writer. Of several rows with one key the last counts.
func (s *aggregateStore) Write(ctx context.Context, commit store.Commit, rows []store.AggregateRow) error {
	return s.write(ctx, commit, len(rows), func(ctx context.Context, w *writing) error {
		last := make(map[store.WindowKey]int, len(rows))
		for i := range rows {
			last[store.KeyOf(&rows[i].Aggregate)] = i
		}
		shown, states := newAggregateBlock(len(last)), newStateBlock(w, len(last))
		for i := range rows {
			r := &rows[i]
			if last[store.KeyOf(&r.Aggregate)] != i {
				continue
			}
			mixAggregate(w, r)
			shown.add(w, &r.Aggregate)
			if len(r.State) > 0 {
				states.add(w, r)
			}
		}
		// States first: what is shown is then never newer than what a correction would begin with.
		if n := len(states.keys.tenants); n > 0 {
			err := s.db.insert(ctx, "aggregate_states", stateRowColumns(), w.token("aggregate_states", n), states.columns())
			if err != nil {
				return err
			}
		}
		return s.db.insert(ctx, "aggregates", aggregateColumns(), w.token("aggregates", len(shown.keys.tenants)), shown.columns())
	})
}

// mixAggregate takes into the hash what tells two rows of one window apart.
func mixAggregate(w *writing, r *store.AggregateRow) {
	w.mixText(r.Tenant)
	w.mixText(r.DeviceID)
	w.mixText(r.ChannelKey)
	for _, n := range [...]uint64{
		uint64(r.WindowStart), uint64(r.WindowLength), r.Count, uint64(r.Revision), math.Float64bits(r.Sum), //nolint:gosec // bits
		math.Float64bits(r.Min), math.Float64bits(r.Max), math.Float64bits(r.First), math.Float64bits(r.Last),
	} {
		w.mixNumber(n)
	}
	w.mixText(alias(r.State))
}

// windowBlock has the columns of a window's key.
type windowBlock struct {
	tenants, devices, channels []string
	starts                     []time.Time
	lengths                    []int64
}

func newWindowBlock(n int) windowBlock {
	return windowBlock{make([]string, 0, n), make([]string, 0, n), make([]string, 0, n), make([]time.Time, 0, n), make([]int64, 0, n)}
}

func (b *windowBlock) add(a *telemetry.Aggregate) {
	b.tenants, b.devices = append(b.tenants, text(a.Tenant)), append(b.devices, text(a.DeviceID))
	b.channels, b.starts = append(b.channels, text(a.ChannelKey)), append(b.starts, a.WindowStart.Std())
	b.lengths = append(b.lengths, a.WindowLength)
}

func aggregateColumns() []columnType {
	columns := []columnType{
		{"tenant", kindText},
		{"device_id", kindText},
		{"channel_key", kindText},
		{"window_start", kindTime},
		{"window_seconds", "Float64"},
		{"count", "Int64"},
	}
	for _, name := range []string{"min", "max", "sum", "avg", "first", "last", "p50", "p95", "p99"} {
		columns = append(columns, columnType{name, kindNumber})
	}
	return append(columns, columnType{"revision", "Int32"}, columnType{"device_type", kindText}, columnType{"first_time", kindTimeNull},
		columnType{"last_time", kindTimeNull}, columnType{"window_length_ns", "Int64"}, columnType{"version", "UInt64"})
}

// aggregateBlock is a block of the table aggregates.
type aggregateBlock struct {
	keys        windowBlock
	seconds     []float64
	counts      []int64
	numbers     [9][]*float64
	revisions   []int32
	types       []string
	first, last []*time.Time
	versions    []uint64
}

func newAggregateBlock(n int) *aggregateBlock {
	b := &aggregateBlock{keys: newWindowBlock(n), seconds: make([]float64, 0, n), counts: make([]int64, 0, n), types: make([]string, 0, n)}
	for i := range b.numbers {
		b.numbers[i] = make([]*float64, 0, n)
	}
	return b
}

func (b *aggregateBlock) add(w *writing, a *telemetry.Aggregate) {
	some := a.Count > 0
	b.keys.add(a)
	b.seconds = append(b.seconds, float64(a.WindowLength)/1e9)
	b.counts = append(b.counts, int64(a.Count)) //nolint:gosec // below 2^63
	numbers := &[9]float64{a.Min, a.Max, a.Sum, a.Avg(), a.First, a.Last, a.P50, a.P95, a.P99}
	for i := range numbers {
		var n *float64
		if some {
			n = &numbers[i]
		}
		b.numbers[i] = append(b.numbers[i], n)
	}
	b.revisions = append(b.revisions, int32(a.Revision)) //nolint:gosec // below 2^31
	b.types = append(b.types, text(a.DeviceType))
	b.first, b.last = append(b.first, momentOrNull(a.FirstTime)), append(b.last, momentOrNull(a.LastTime))
	b.versions = append(b.versions, w.version)
}

func (b *aggregateBlock) columns() []any {
	columns := []any{b.keys.tenants, b.keys.devices, b.keys.channels, b.keys.starts, b.seconds, b.counts}
	for _, n := range b.numbers {
		columns = append(columns, n)
	}
	return append(columns, b.revisions, b.types, b.first, b.last, b.keys.lengths, b.versions)
}

func stateRowColumns() []columnType {
	columns := []columnType{
		{"tenant", kindText},
		{"device_id", kindText},
		{"channel_key", kindText},
		{"window_start", kindTime},
		{"window_length_ns", "Int64"},
		{"version", "UInt64"},
		{"worker", kindText},
		{"topic", kindText},
		{"partition", "Int32"},
		{"through", "Int64"},
		{"device_type", kindText},
		{"count", "Int64"},
	}
	for _, name := range []string{"min", "max", "sum", "first", "last", "p50", "p95", "p99"} {
		columns = append(columns, columnType{name, "Float64"})
	}
	return append(columns, columnType{"revision", "Int32"}, columnType{"first_time", "Int64"}, columnType{"last_time", "Int64"},
		columnType{"state_until", kindTime}, columnType{"state", kindText})
}

// stateBlock is a block of the table aggregate_states.
type stateBlock struct {
	keys                  windowBlock
	span                  store.Span // whose progress makes the rows count
	through               int64
	versions              []uint64
	workers, topics       []string
	partitions            []int32
	throughs              []int64
	types                 []string
	counts                []int64
	numbers               [8][]float64
	revisions             []int32
	firstTimes, lastTimes []int64
	until                 []time.Time
	states                []string
}

func newStateBlock(w *writing, n int) *stateBlock {
	b := &stateBlock{keys: newWindowBlock(n), states: make([]string, 0, n)}
	for i, s := range w.commit.Spans {
		b.span, b.through = s, w.packed[i]
		if s.After != s.Through.Through {
			break // one that moves: when its progress is there, so is that of all others
		}
	}
	return b
}

func (b *stateBlock) add(w *writing, r *store.AggregateRow) {
	b.keys.add(&r.Aggregate)
	b.versions = append(b.versions, w.version)
	b.workers, b.topics = append(b.workers, w.commit.Worker), append(b.topics, b.span.Partition.Topic)
	b.partitions = append(b.partitions, int32(b.span.Partition.Number)) //nolint:gosec // a partition's number
	b.throughs = append(b.throughs, b.through)
	b.types = append(b.types, text(r.DeviceType))
	b.counts = append(b.counts, int64(r.Count)) //nolint:gosec // below 2^63
	for i, v := range [...]float64{r.Min, r.Max, r.Sum, r.First, r.Last, r.P50, r.P95, r.P99} {
		b.numbers[i] = append(b.numbers[i], v)
	}
	b.revisions = append(b.revisions, int32(r.Revision)) //nolint:gosec // below 2^31
	b.firstTimes, b.lastTimes = append(b.firstTimes, int64(r.FirstTime)), append(b.lastTimes, int64(r.LastTime))
	b.until, b.states = append(b.until, r.StateUntil.Std()), append(b.states, alias(r.State))
}

func (b *stateBlock) columns() []any {
	columns := []any{
		b.keys.tenants, b.keys.devices, b.keys.channels, b.keys.starts, b.keys.lengths, b.versions, b.workers, b.topics, b.partitions,
		b.throughs, b.types, b.counts,
	}
	for _, n := range b.numbers {
		columns = append(columns, n)
	}
	return append(columns, b.revisions, b.firstTimes, b.lastTimes, b.until, b.states)
}

// ForgetStates implements store.AggregateWriter. Hours that have passed are dropped as a whole, the rest of one by a mask.
func (s *aggregateStore) ForgetStates(ctx context.Context, now telemetry.Time) error {
	ctx, cancel := s.db.bounded(ctx)
	defer cancel()
	if err := s.forget(ctx, now); err != nil {
		return fmt.Errorf("forget states: %w", err)
	}
	return nil
}
