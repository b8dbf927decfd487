package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/pkg/telemetry"
)

func alarms(n, from int) []telemetry.Alarm {
	rows := make([]telemetry.Alarm, n)
	for i := range rows {
		rows[i] = alarm(fmt.Sprintf("%08x-0000-4000-8000-%012d", from+i, i), 1)
	}
	return rows
}

func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cfg := fresh(b)
			cfg.Silent = n > 100
			db := open(b, cfg)
			rows := 0
			for b.Loop() {
				if err := db.Alarms().Write(b.Context(), commitOf(uint64(rows/n), uint64(rows/n+1)), alarms(n, rows)); err != nil {
					b.Fatal(err)
				}
				rows += n
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkCopy is what the client library can do at best: COPY into the same table, without progress or upsert.
func BenchmarkCopy(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cfg := fresh(b)
			conn := connectAs(b, cfg)
			defer func() { _ = conn.Close(context.WithoutCancel(b.Context())) }()
			rows := 0
			columns := []string{
				"alarm_id", "tenant", "rule", "device_id", "channel_key", "severity", "state", "value", "previous_value", "raised_at_ns", "detail_text", "revision",
			}
			for b.Loop() {
				batch := alarms(n, rows)
				_, err := conn.CopyFrom(b.Context(), pgx.Identifier{cfg.Schema, "alarms"}, columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) {
					a := &batch[i]
					return []any{
						a.AlarmID, a.Tenant, a.Rule, a.DeviceID, a.ChannelKey, a.Severity, string(a.State), a.Value, a.PreviousValue, int64(a.RaisedAt),
						string(a.Detail), int64(a.Revision),
					}, nil
				}))
				if err != nil {
					b.Fatal(err)
				}
				rows += n
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
