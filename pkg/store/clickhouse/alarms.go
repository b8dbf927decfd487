package clickhouse

import (
	"context"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// alarmStore keeps alarms. All rows of a write are sent: the table keeps the highest revision.
type alarmStore struct{ *lane }

func alarmColumns() []columnType {
	return []columnType{
		{"alarm_id", kindText},
		{"tenant", kindText},
		{"rule", kindText},
		{"device_id", kindText},
		{"channel_key", kindText},
		{"severity", kindText},
		{"state", kindText},
		{"value", kindText},
		{"raised_at", kindTimeNull},
		{"acked_at", kindTimeNull},
		{"cleared_at", kindTimeNull},
		{"detail", kindTextNull},
		{"previous_value", kindText},
		{"revision", "Int32"},
		{"position", "UInt64"},
	}
}

type alarmBlock struct {
	ids, tenants, rules, devices, channels, severities, states, values, previous []string
	raised, acked, cleared                                                       []*time.Time
	details                                                                      []*string
	revisions                                                                    []int32
	positions                                                                    []uint64
}

// Write implements store.Writer.
func (s *alarmStore) Write(ctx context.Context, commit store.Commit, rows []telemetry.Alarm) error {
	return s.write(ctx, commit, len(rows), func(ctx context.Context, w *writing) error {
		var b alarmBlock
		for i := range rows {
			b.add(w, &rows[i])
		}
		return s.db.insert(ctx, "alarms", alarmColumns(), w.token("alarms", len(rows)), []any{
			b.ids, b.tenants, b.rules, b.devices, b.channels, b.severities, b.states, b.values, b.raised, b.acked, b.cleared, b.details,
			b.previous, b.revisions, b.positions,
		})
	})
}

func (b *alarmBlock) add(w *writing, a *telemetry.Alarm) {
	w.mixText(a.AlarmID)
	w.mixNumber(uint64(a.Revision))
	w.mixText(string(a.State))
	w.mixText(a.Value)
	w.mixText(alias(a.Detail))
	for _, t := range []telemetry.Time{a.RaisedAt, a.AckedAt, a.ClearedAt} {
		w.mixNumber(uint64(t)) //nolint:gosec // bits
	}
	b.ids, b.tenants, b.rules = append(b.ids, text(a.AlarmID)), append(b.tenants, text(a.Tenant)), append(b.rules, text(a.Rule))
	b.devices, b.channels = append(b.devices, text(a.DeviceID)), append(b.channels, text(a.ChannelKey))
	b.severities, b.states = append(b.severities, text(a.Severity)), append(b.states, text(string(a.State)))
	b.values, b.previous = append(b.values, text(a.Value)), append(b.previous, text(a.PreviousValue))
	b.raised, b.acked = append(b.raised, momentOrNull(a.RaisedAt)), append(b.acked, momentOrNull(a.AckedAt))
	b.cleared, b.details = append(b.cleared, momentOrNull(a.ClearedAt)), append(b.details, textOrNull(a.Detail))
	b.revisions = append(b.revisions, int32(a.Revision)) //nolint:gosec // an alarm does not change 2^31 times
	b.positions = append(b.positions, w.version)
}
