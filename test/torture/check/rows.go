package check

import (
	"context"
	"fmt"
	"strconv"

	"github.com/millrace/millrace/test/torture/ledger"
)

// Rows holds a table of channel messages, device_messages or archive, against the ledger.
func Rows(ctx context.Context, s Source, l *ledger.Ledger, table string) (Verdict, error) {
	v := Verdict{Store: table}
	rows, err := s.Query(ctx, fmt.Sprintf(`SELECT device_id, count(*), count(DISTINCT value), sum(value)::BIGINT FROM %s
		WHERE channel_key = 'n' AND device_id LIKE '%s-%%' GROUP BY device_id`, table, l.Plan.Name))
	if err != nil {
		return v, err
	}
	summary := map[string][3]int{}
	for _, row := range rows {
		var of [3]int
		for i := range of {
			if of[i], err = strconv.Atoi(row[i+1]); err != nil {
				return v, fmt.Errorf("read %s: %w", table, err)
			}
		}
		summary[row[0]] = of
	}
	channel := func(n int) bool { return l.Plan.Kind(n) == ledger.Channel }
	for d := range l.Plan.Devices {
		if count, sum, whole := expected(l, d); whole && summary[l.Plan.Device(d)] == [3]int{count, count, sum} {
			v.Expected += count
			v.Found += count
			v.Rows += count
			continue
		}
		has, err := numbers(ctx, s, table, l.Plan.Device(d))
		if err != nil {
			return v, err
		}
		v.messages(l, d, channel, has)
	}
	return v, nil
}

// expected sums up what must be there of a device; whole is false where some message got no answer.
func expected(l *ledger.Ledger, d int) (count, sum int, whole bool) {
	whole = true
	for n := range l.Plan.Each {
		if l.Plan.Kind(n) != ledger.Channel {
			continue
		}
		switch s := l.State(d, n); {
		case s.Answered:
			count++
			sum += n
		case s.Sent > 0:
			whole = false
		}
	}
	return count, sum, whole
}

// numbers returns how often each message of a device is in a table. It asks in parts, since an answer has a limit of rows.
func numbers(ctx context.Context, s Source, table, device string) (map[int]int, error) {
	const part = 50_000
	has := map[int]int{}
	for from := 0; ; from += part {
		rows, err := s.Query(ctx, fmt.Sprintf(`SELECT value::BIGINT, count(*) FROM %s WHERE channel_key = 'n' AND device_id = '%s' GROUP BY 1 ORDER BY 1 LIMIT %d OFFSET %d`,
			table, device, part, from))
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			n, err := strconv.Atoi(row[0])
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", table, err)
			}
			if has[n], err = strconv.Atoi(row[1]); err != nil {
				return nil, fmt.Errorf("read %s: %w", table, err)
			}
		}
		if len(rows) < part {
			return has, nil
		}
	}
}

// State holds device_state against history: of each channel the row with the highest event time, once.
func State(ctx context.Context, s Source, l *ledger.Ledger) (Verdict, error) {
	v := Verdict{Store: "device_state"}
	newest, err := newestOf(ctx, s, l)
	if err != nil {
		return v, err
	}
	rows, err := s.Query(ctx, fmt.Sprintf("SELECT device_id, value::BIGINT FROM device_state WHERE device_id LIKE '%s-%%' AND channel_key = 'n'", l.Plan.Name))
	if err != nil {
		return v, err
	}
	v.Expected = len(newest)
	seen := map[string]int{}
	for _, row := range rows {
		want, ok := newest[row[0]]
		switch seen[row[0]]++; {
		case !ok:
			v.Unexpected++
			v.tell("device_state: %s has a row, and history has none", row[0])
		case seen[row[0]] > 1:
			v.Doubled++
			v.tell("device_state: %s has %d rows", row[0], seen[row[0]])
		case want != row[1]:
			v.Unexpected++
			v.tell("device_state: %s says %s, and the newest in history is %s", row[0], row[1], want)
		default:
			v.Found++
		}
	}
	for device := range newest {
		if seen[device] == 0 {
			v.Lost++
			v.tell("device_state: %s has no row", device)
		}
	}
	return v, nil
}

// newestOf returns the newest number of each device in history.
func newestOf(ctx context.Context, s Source, l *ledger.Ledger) (map[string]string, error) {
	rows, err := s.Query(ctx, fmt.Sprintf(`SELECT device_id, arg_max(value, event_time)::BIGINT FROM device_messages
		WHERE channel_key = 'n' AND device_id LIKE '%s-%%' GROUP BY device_id`, l.Plan.Name))
	if err != nil {
		return nil, err
	}
	newest := make(map[string]string, len(rows))
	for _, row := range rows {
		newest[row[0]] = row[1]
	}
	return newest, nil
}

// windowsDiffer is the windows of a length in seconds that do not equal what SQL computes from history, or are missing on either side.
const windowsDiffer = `SELECT device_id, w, a.n, h.n, a.total, h.total FROM (
	SELECT device_id, channel_key, epoch_ns(window_start) AS w, "count" AS n, "min" AS lo, "max" AS hi, "sum" AS total, "first" AS f, "last" AS l
	FROM aggregates WHERE window_seconds = %[1]d) a FULL JOIN (
	SELECT device_id, channel_key, epoch_ns(event_time) - epoch_ns(event_time) %% %[1]d000000000 AS w,
		count(*) AS n, min(value) AS lo, max(value) AS hi, sum(value) AS total, arg_min(value, event_time) AS f, arg_max(value, event_time) AS l
	FROM device_messages WHERE value IS NOT NULL GROUP BY ALL) h
	USING (device_id, channel_key, w)
	WHERE coalesce(a.n, 0) <> coalesce(h.n, 0) OR a.lo <> h.lo OR a.hi <> h.hi OR a.f <> h.f OR a.l <> h.l OR abs(a.total - h.total) > 1e-6 * (1 + abs(h.total))
	LIMIT 1000`

// Windows holds the aggregates of one length against what SQL computes from history.
func Windows(ctx context.Context, s Source, seconds int) (Verdict, error) {
	v := Verdict{Store: fmt.Sprintf("aggregates %ds", seconds)}
	rows, err := s.Query(ctx, fmt.Sprintf("SELECT count(*) FROM aggregates WHERE window_seconds = %d", seconds))
	if err != nil {
		return v, err
	}
	if v.Found, err = strconv.Atoi(rows[0][0]); err != nil {
		return v, fmt.Errorf("read aggregates: %w", err)
	}
	if err := v.windowsTwice(ctx, s, seconds); err != nil || v.Doubled > 0 {
		return v, err
	}
	differ, err := s.Query(ctx, fmt.Sprintf(windowsDiffer, seconds))
	if err != nil {
		return v, err
	}
	v.Expected = v.Found
	for _, row := range differ {
		has, _ := strconv.Atoi(row[2]) // empty: none
		want, _ := strconv.Atoi(row[3])
		switch {
		case has < want:
			v.Lost++
		case has > want:
			v.Doubled++
		default:
			v.Unexpected++
		}
		v.tell("aggregates %ds: %s: the window at %s has count %s and sum %s, history %s and %s", seconds, row[0], row[1], orNone(row[2]), orNone(row[4]), orNone(row[3]), orNone(row[5]))
	}
	return v, nil
}

// windowsTwice counts the windows that have several rows.
func (v *Verdict) windowsTwice(ctx context.Context, s Source, seconds int) error {
	rows, err := s.Query(ctx, fmt.Sprintf(`SELECT device_id, epoch_ns(window_start), count(*), min("count"), max("count"), min(revision), max(revision) FROM aggregates
		WHERE window_seconds = %d GROUP BY device_id, channel_key, window_start HAVING count(*) > 1 LIMIT 1000`, seconds))
	if err != nil {
		return err
	}
	for _, row := range rows {
		n, err := strconv.Atoi(row[2])
		if err != nil {
			return fmt.Errorf("read aggregates: %w", err)
		}
		v.Doubled += n - 1
		v.tell("aggregates %ds: %s: the window at %s has %s rows, with counts %s to %s and revisions %s to %s", seconds, row[0], row[1], row[2], row[3], row[4], row[5], row[6])
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
