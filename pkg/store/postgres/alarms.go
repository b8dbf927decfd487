package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// payloadMax is the most bytes that are sent with NOTIFY: PostgreSQL takes up to 7999. A longer one comes without the names.
const payloadMax = 7900

// alarmStore keeps alarms: one statement a write, whatever its number of rows.
type alarmStore struct {
	db     *DB
	upsert string
}

func newAlarmStore(db *DB) *alarmStore {
	s := &alarmStore{db: db}
	// Columns that operators added are not named, so they keep what they have. What returns is what has changed.
	s.upsert = `WITH changed AS (
		INSERT INTO ` + db.schema + `.alarms AS a (alarm_id, tenant, rule, device_id, channel_key, severity, state, value, previous_value,
			raised_at_ns, acked_at_ns, cleared_at_ns, detail_text, revision)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
			$10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::bigint[])
		ON CONFLICT (alarm_id) DO UPDATE SET tenant = excluded.tenant, rule = excluded.rule, device_id = excluded.device_id,
			channel_key = excluded.channel_key, severity = excluded.severity, state = excluded.state, value = excluded.value,
			previous_value = excluded.previous_value, raised_at_ns = excluded.raised_at_ns, acked_at_ns = excluded.acked_at_ns,
			cleared_at_ns = excluded.cleared_at_ns, detail_text = excluded.detail_text, revision = excluded.revision
		WHERE excluded.revision > a.revision
		RETURNING alarm_id, tenant, device_id, state, revision)`
	if db.cfg.Silent {
		s.upsert += ` SELECT count(*) FROM changed`
		return s
	}
	s.upsert += fmt.Sprintf(` SELECT count(pg_notify($15, CASE WHEN octet_length(whole) <= %d THEN whole ELSE short END)) FROM (
		SELECT json_build_object('alarm_id', alarm_id, 'tenant', tenant, 'device_id', device_id, 'state', state, 'revision', revision)::text AS whole,
			json_build_object('state', state, 'revision', revision)::text AS short FROM changed) AS told`, payloadMax)
	return s
}

// Write implements store.Writer. Of several revisions of one alarm the highest counts.
func (s *alarmStore) Write(ctx context.Context, commit store.Commit, rows []telemetry.Alarm) error {
	staged, err := stage(rows)
	if err != nil {
		return err
	}
	ctx, cancel := s.db.bounded(ctx)
	defer cancel()
	err = s.db.commit(ctx, commit, func(b *pgx.Batch) {
		if len(staged) > 0 {
			b.Queue(s.upsert, s.args(staged)...)
		}
	})
	if neverTaken(err) {
		if refused := s.blame(ctx, staged); refused != nil {
			return refused
		}
	}
	if err != nil {
		return fmt.Errorf("write alarms: %w", err)
	}
	return nil
}

// staged is a row as PostgreSQL can take it.
type staged struct {
	telemetry.Alarm
	index  int // in the rows of the write
	detail *string
}

// stage returns the rows to write, one an alarm, by its id: all writers lock rows in the same order.
func stage(rows []telemetry.Alarm) ([]staged, error) {
	newest := make(map[string]int, len(rows))
	var refused store.Refused
	var all []staged
	for i := range rows {
		s := staged{Alarm: rows[i], index: i}
		for _, text := range []*string{
			&s.AlarmID, &s.Tenant, &s.Rule, &s.DeviceID, &s.ChannelKey, &s.Severity, (*string)(&s.State), &s.Value, &s.PreviousValue,
		} {
			*text = cleanText(*text)
		}
		var err error
		if s.detail, err = cleanJSON(s.Detail); err != nil {
			refused.Rows, refused.Reasons = append(refused.Rows, i), append(refused.Reasons, err.Error())
			continue
		}
		at, known := newest[s.AlarmID]
		switch {
		case !known:
			newest[s.AlarmID] = len(all)
			all = append(all, s)
		case all[at].Revision <= s.Revision:
			all[at] = s
		}
	}
	if len(refused.Rows) > 0 {
		return nil, &refused
	}
	slices.SortFunc(all, func(a, b staged) int { return strings.Compare(a.AlarmID, b.AlarmID) })
	return all, nil
}

// args returns rows as the arrays of the upsert, and the channel to notify.
func (s *alarmStore) args(rows []staged) []any {
	var texts [9][]string
	var times [3][]*int64
	details, revisions := make([]*string, len(rows)), make([]int64, len(rows))
	for i := range rows {
		r := &rows[i]
		for j, t := range [9]string{r.AlarmID, r.Tenant, r.Rule, r.DeviceID, r.ChannelKey, r.Severity, string(r.State), r.Value, r.PreviousValue} {
			texts[j] = append(texts[j], t)
		}
		for j, t := range [3]telemetry.Time{r.RaisedAt, r.AckedAt, r.ClearedAt} {
			times[j] = append(times[j], momentOrNull(t))
		}
		details[i], revisions[i] = r.detail, int64(r.Revision)
	}
	var args []any
	for _, t := range texts {
		args = append(args, t)
	}
	for _, t := range times {
		args = append(args, t)
	}
	args = append(args, details, revisions)
	if !s.db.cfg.Silent {
		args = append(args, s.db.cfg.Channel)
	}
	return args
}

func momentOrNull(t telemetry.Time) *int64 {
	if t == 0 {
		return nil
	}
	ns := int64(t)
	return &ns
}

// neverTaken reports whether the server refused a value as such: a data exception (class 22), or one beyond a limit of the server
// (class 54), such as a key too long for an index. A constraint that operators have added (class 23) is not of these: they can
// change it, and until then the write is tried again and its error shown.
func neverTaken(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "54"))
}

// blame finds the rows that the server does not take, by writing each into a transaction that is rolled back. It returns nil when there
// are none, or when they cannot be found now.
func (s *alarmStore) blame(ctx context.Context, rows []staged) error {
	var refused store.Refused
	for i := range rows {
		err := s.try(ctx, rows[i:i+1])
		if neverTaken(err) {
			refused.Rows, refused.Reasons = append(refused.Rows, rows[i].index), append(refused.Reasons, err.Error())
		}
	}
	if len(refused.Rows) == 0 {
		return nil
	}
	order := make([]int, len(refused.Rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return refused.Rows[a] - refused.Rows[b] })
	rising := &store.Refused{}
	for _, i := range order {
		rising.Rows, rising.Reasons = append(rising.Rows, refused.Rows[i]), append(rising.Reasons, refused.Reasons[i])
	}
	return rising
}

func (s *alarmStore) try(ctx context.Context, row []staged) error {
	tx, err := s.db.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // what counts is whether the row was taken
	_, err = tx.Exec(ctx, s.upsert, s.args(row)...)
	return err
}
