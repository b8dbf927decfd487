package move

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/standalone/internal/scan"
)

const (
	pageRows  = 5000      // of the target at a time; Elasticsearch gives 10,000 at most
	rangeRows = 500_000   // of the source that are compared at a time, where a table has days
	nameRows  = 2_000_000 // up to which rows that differ are named
	nameMax   = 10        // of one table

	patienceDefault = 15 * time.Second // of Options
	lookEvery       = time.Second
)

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// comparison says how one table is compared.
type comparison struct {
	table   string
	columns []column
	order   []string // names a row
	by      []string // names it to people, where order does not on both sides
	time    string   // column by which the table has days; "" where it has none
	// foreign says that the target may have rows of its own beside the moved ones, which have a negative origin_partition.
	foreign bool
	// closed says that rows of the target beyond the newest of the source are its own.
	closed bool
}

// stretch is a range of time that is compared at once; from and to 0 mean open.
type stretch struct {
	day      string
	from, to telemetry.Time
}

// compare reads a table on both sides and returns what differs, for people; nothing when all is equal.
func (r *runner) compare(ctx context.Context, c comparison, target store.Reader) (differences []string, err error) {
	stretches, units, err := r.stretches(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", c.table, err)
	}
	r.began("compare "+c.table, 0, units)
	var done uint64
	sides := map[string][2]digest{}
	patience := cmp.Or(r.o.Patience, patienceDefault)
	for _, s := range stretches {
		var here, there digest
		err := r.scan(ctx, r.source.DB, c, s, rangeRows, func(_ []any, hash uint64) { here.add(hash) })
		for err == nil {
			err = r.retry(ctx, c.table, func() error {
				there = digest{}
				return r.scan(ctx, target, c, s, pageRows, func(_ []any, hash uint64) { there.add(hash) })
			})
			if err != nil || here == there || patience <= 0 {
				break
			}
			patience -= lookEvery
			err = pause(ctx, lookEvery)
		}
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", c.table, err)
		}
		if here != there && len(differences) < nameMax && here.rows <= nameRows {
			named, err := r.name(ctx, c, s, target)
			if err != nil {
				return nil, fmt.Errorf("compare %s: %w", c.table, err)
			}
			differences = append(differences, named...)
		}
		both := sides[s.day]
		both[0] = digest{both[0].rows + here.rows, both[0].sum + here.sum}
		both[1] = digest{both[1].rows + there.rows, both[1].sum + there.sum}
		sides[s.day] = both
		done += here.rows
		r.reached(done)
	}
	return append(daysThatDiffer(c.table, sides), differences...), nil
}

func daysThatDiffer(table string, sides map[string][2]digest) (lines []string) {
	for _, day := range slices.Sorted(maps.Keys(sides)) {
		here, there := sides[day][0], sides[day][1]
		where := strings.TrimSpace(table + " " + day)
		switch {
		case here.rows != there.rows:
			lines = append(lines, fmt.Sprintf("%s: %d rows in the target, %d in the source", where, there.rows, here.rows))
		case here.sum != there.sum:
			lines = append(lines, fmt.Sprintf("%s: %d rows on both sides, and not the same ones (checksums %016x in the target, %016x in the source)",
				where, here.rows, there.sum, here.sum))
		}
	}
	return lines
}

// stretches cuts the time of a table so that each stretch has few enough rows of the source; together they cover all time, unless
// the comparison is closed.
func (r *runner) stretches(ctx context.Context, c comparison) (all []stretch, rows uint64, err error) {
	if c.time == "" {
		chunks, err := r.source.whole(ctx, c.table)
		return []stretch{{}}, total(chunks), err
	}
	query := fmt.Sprintf(`SELECT epoch_ns(date_trunc('hour', "%s"::TIMESTAMP))::BIGINT AS h, count(*) FROM %s GROUP BY 1 ORDER BY 1`, c.time, c.table)
	const hour = 3600 * 1_000_000_000
	var held uint64
	for row, err := range r.source.rows(ctx, query) {
		if err != nil {
			return nil, 0, err
		}
		from, n := telemetry.Time(scan.As[int64](row[0])), uint64(scan.As[int64](row[1])) //nolint:gosec // a count
		rows += n
		last := len(all) - 1
		if last < 0 || all[last].day != dayOf(from) || held+n > rangeRows {
			if last >= 0 {
				all[last].to = from
			}
			all, held = append(all, stretch{day: dayOf(from), from: from}), 0
			last++
		}
		all[last].to = from + hour
		held += n
	}
	if len(all) == 0 {
		return []stretch{{}}, 0, nil
	}
	all[0].from, all[len(all)-1].to = 0, 0
	if c.closed {
		all[len(all)-1].to, err = r.beyond(ctx, c)
	}
	return all, rows, err
}

// beyond returns the time after the newest row of the source.
func (r *runner) beyond(ctx context.Context, c comparison) (telemetry.Time, error) {
	for row, err := range r.source.rows(ctx, fmt.Sprintf(`SELECT max("%s") FROM %s`, c.time, c.table)) {
		return scan.Time(row[0]) + 1, err
	}
	return 0, nil
}

// scan calls each with the rows of a stretch and their hashes, page by page.
func (r *runner) scan(ctx context.Context, from store.Reader, c comparison, s stretch, page int, each func(row []any, hash uint64)) error {
	sel := store.Selection{Table: c.table, Columns: names(c.columns), Order: c.order, Limit: page}
	if s.from != 0 {
		sel.Where = append(sel.Where, store.Condition{Columns: []string{c.time}, Op: store.AtLeast, Value: s.from})
	}
	if s.to != 0 {
		sel.Where = append(sel.Where, store.Condition{Columns: []string{c.time}, Op: store.Below, Value: s.to})
	}
	own := slices.Index(sel.Columns, "origin_partition")
	var scratch []byte
	for {
		n := 0
		err := from.Select(ctx, sel, func(row []any) error {
			n++
			if n == page {
				sel.After = keys(row[len(c.columns):])
			}
			if c.foreign && from != store.Reader(r.source.DB) {
				if p, ok := integer(row[own]); ok && p >= 0 {
					return nil
				}
			}
			var hash uint64
			hash, scratch = hashOf(row, c.columns, scratch)
			each(row, hash)
			return nil
		})
		if err != nil || n < page {
			return err
		}
	}
}

// keys returns the values of the order's columns as Selection.After takes them.
func keys(row []any) []any {
	all := make([]any, len(row))
	for i, v := range row {
		all[i] = v
		switch k := v.(type) {
		case interface{ UnixNano() int64 }:
			all[i] = telemetry.Time(k.UnixNano())
		case float32:
			all[i] = float64(k)
		default:
			if n, ok := integer(v); ok {
				all[i] = n
			}
		}
	}
	return all
}

// name returns the rows of a stretch that are on one side only, or differ, by their keys.
func (r *runner) name(ctx context.Context, c comparison, s stretch, target store.Reader) ([]string, error) {
	type sides struct{ here, there uint64 }
	rows := map[string]sides{}
	key := func(row []any) string { return c.keyText(row) }
	err := r.scan(ctx, r.source.DB, c, s, rangeRows, func(row []any, hash uint64) {
		k := key(row)
		b := rows[k]
		b.here += hash
		rows[k] = b
	})
	if err == nil {
		err = r.scan(ctx, target, c, s, pageRows, func(row []any, hash uint64) {
			k := key(row)
			b := rows[k]
			b.there += hash
			rows[k] = b
		})
	}
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		switch b := rows[k]; {
		case b.here == b.there:
			continue
		case b.there == 0:
			lines = append(lines, fmt.Sprintf("%s: the target lacks %s", c.table, k))
		case b.here == 0:
			lines = append(lines, fmt.Sprintf("%s: the source lacks %s", c.table, k))
		default:
			lines = append(lines, fmt.Sprintf("%s: differs: %s", c.table, k))
		}
		if len(lines) == nameMax {
			return append(lines, fmt.Sprintf("%s: and more", c.table)), nil
		}
	}
	return lines, nil
}

// keyText returns the values by which people know a row.
func (c *comparison) keyText(row []any) string {
	by := c.by
	if by == nil {
		by = c.order
	}
	var parts []string
	for _, name := range by {
		switch v := row[slices.IndexFunc(c.columns, func(o column) bool { return o.name == name })].(type) {
		case interface{ UnixNano() int64 }:
			parts = append(parts, telemetry.Time(v.UnixNano()).Std().Format("2006-01-02T15:04:05.999999999Z"))
		default:
			if n, ok := integer(v); ok && name == "origin_partition" && n >= 0 {
				parts = append(parts, fmt.Sprint(-1-n))
				continue
			}
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, " ")
}

// comparisons returns how each table is compared, by name. RowID is the identity that a dead letter has in each engine by itself.
func comparisons() map[string]comparison {
	var history []string
	for _, c := range store.HistoryColumns() {
		history = append(history, c.Name)
	}
	all := map[string]comparison{}
	for _, c := range []comparison{
		{
			table: store.TableState, order: []string{"tenant", "device_id", "channel_key"},
			columns: columnsOf("tenant", "device_id", "device_type", "channel_key", "channel_type", "channel_value", "value", "event_time", "ingest_time",
				"message_id", "origin_partition", "origin_position"),
		},
		{
			table: store.TableDevices, order: []string{"tenant", "device_id"},
			columns: columnsOf("tenant", "device_id", "device_type", "first_seen", "last_seen", "connected", "connected_since", "disconnected_at",
				"disconnect_reason", "address", "client_id", "protocol", "credential"),
		},
		{
			table: store.TableAggregates, order: []string{"window_start", "window_length_ns", "tenant", "device_id", "channel_key"}, time: "window_start",
			columns: columnsOf("tenant", "device_id", "channel_key", "window_start", "window_seconds", "count", "min", "max", "sum", "avg", "first", "last",
				"p50", "p95", "p99", "revision", "device_type", "first_time", "last_time", "window_length_ns"),
		},
		{
			table: store.TableAlarms, order: []string{"alarm_id"},
			columns: columnsOf("alarm_id", "tenant", "rule", "device_id", "channel_key", "severity", "state", "value", "raised_at", "acked_at", "cleared_at",
				"detail", "previous_value", "revision"),
		},
		{
			table: store.TableMessages, order: []string{"event_time", "origin_partition", "origin_position"}, time: "event_time", foreign: true,
			columns: columnsOf(history...),
		},
		{
			table: store.TableLogs, order: []string{"event_time", "origin_partition", "origin_position"}, time: "event_time", foreign: true,
			columns: columnsOf("tenant", "device_id", "device_type", "severity", "source", "message", "event_time", "ingest_time", "message_id",
				"origin_partition", "origin_position"),
		},
		{
			table: store.TableDeadLetters, order: []string{"received_at", store.RowID}, by: []string{"received_at", "topic", "worker", "position", "reason"},
			time: "received_at", closed: true,
			columns: columnsOf("topic", "worker", "reason", "payload", "received_at", "tenant", "device_id", "credential", "partition", "position"),
		},
	} {
		all[c.table] = c
	}
	return all
}
