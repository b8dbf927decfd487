package clickhouse_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
	"github.com/millrace/millrace/pkg/store/clickhouse"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// TestHistoryIsWarmRowsAndWhatOnlyTheArchiveHas lets the retention pass over rows that the archive has too.
func TestHistoryIsWarmRowsAndWhatOnlyTheArchiveHas(t *testing.T) {
	e, h := enginetest.Need(t, "s3"), newHome(t, "")
	if n := h.count(t, "SELECT count() FROM "+h.cfg.Database+".archive"); n != 0 {
		t.Errorf("without an archive it has %d rows", n)
	}
	db := h.open(t)
	now := telemetryNow(t, h)
	rows := append(messages(0, 40), storetest.Extremes()...)
	for i := range rows {
		rows[i].EventTime = now.Add(-10 * time.Minute)
		if i%2 == 0 {
			rows[i].EventTime = now.Add(-3 * time.Hour)
		}
		rows[i].EventTime += telemetry.Time(i) // nanoseconds
	}
	must(t, db.History(), through(0, 1), rows)
	h.cfg.Archive = fillArchive(t, e, rows)
	migrateHome(t, h, clickhouse.MigrateOptions{})
	same(t, "the archive", h.messages(t, "archive"), rows)
	same(t, "history that is kept for ever", h.messages(t, "history"), rows)

	h.cfg.Retention.History = time.Hour
	migrateHome(t, h, clickhouse.MigrateOptions{})
	same(t, "history before the rows are dropped", h.messages(t, "history"), rows)
	h.exec(t, "OPTIMIZE TABLE "+h.cfg.Database+"_internal.device_messages FINAL")
	if n, want := len(h.messages(t, "device_messages")), len(rows)/2; n != want {
		t.Errorf("%d warm rows, want %d", n, want)
	}
	same(t, "history afterwards", h.messages(t, "history"), rows)
}

// fillArchive writes rows as the history writer does, and returns how ClickHouse reaches them.
func fillArchive(t *testing.T, e *enginetest.Engine, rows []store.MessageRow) clickhouse.Archive {
	t.Helper()
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = fmt.Sprintf("/clickhouse-%x", rand.Uint64())
	b, err := bucket.Open(t.Context(), bucket.Config{URL: u.String(), AccessKey: e.Get("access_key"), SecretKey: e.Get("secret_key")})
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), archive.Config{Bucket: b, Now: time.Now, UpkeepEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	must(t, a, through(0, 1), rows)
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for o, err := range b.List(ctx, "") {
			if err == nil {
				err = b.Remove(ctx, o.Key)
			}
			if err != nil {
				t.Errorf("tidy up: %v", err)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return clickhouse.Archive{
		URL:       e.Get("endpoint") + "/" + e.Get("bucket") + u.Path + "/dt=*/hour=*/*.parquet",
		AccessKey: e.Get("access_key"), SecretKey: e.Get("secret_key"),
	}
}

// same compares rows by all that history keeps of them.
func same(t *testing.T, what string, got, want []store.MessageRow) {
	t.Helper()
	text := func(m *store.MessageRow) string {
		return fmt.Sprintf("%q %v %v %q %q", []string{m.Tenant, m.DeviceID, m.ChannelKey, string(m.ChannelValue), m.MessageID, m.Source},
			[]any{m.Kind, m.Value, m.HasValue, int64(m.EventTime), int64(m.IngestTime), int64(m.DeviceTime), m.Origin},
			m.Origin, store.AppendProperties(nil, m.Properties), m.Attributes)
	}
	wanted := make(map[string]bool, len(want))
	for i := range want {
		wanted[text(&want[i])] = true
	}
	for i := range got {
		if s := text(&got[i]); !wanted[s] {
			t.Errorf("%s has %.400s", what, s)
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s has %d rows, want %d", what, len(got), len(want))
	}
}
