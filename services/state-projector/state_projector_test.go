package stateprojector_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	stateprojector "github.com/millrace/millrace/services/state-projector"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table keeps the rows that it is given, and their progress.
type table struct {
	mu       sync.Mutex
	rows     []store.MessageRow
	progress map[bus.PartitionID]bus.Progress
}

func (s *table) Write(_ context.Context, commit store.Commit, rows []store.MessageRow) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range rows {
		row := rows[i]
		row.Message = rows[i].Clone()
		s.rows = append(s.rows, row)
	}
	for _, span := range commit.Spans {
		s.progress[span.Partition] = span.Through
	}
	return nil
}

func (s *table) Progress(_ context.Context, _ string, p bus.PartitionID) (bus.Progress, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	progress, ok := s.progress[p]
	return progress.Clone(), ok, nil
}

func TestAFloodBecomesFewRowsAndTheLatestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, rows := mem.New(mem.Config{Now: time.Now}), &table{progress: make(map[bus.PartitionID]bus.Progress)}
		const messages, devices = 20_000, 10
		for n := range messages {
			m := telemetry.Message{
				Tenant: telemetry.DefaultTenant, DeviceID: fmt.Sprint("d", n%devices), Kind: telemetry.KindChannel, ChannelKey: "temperature",
				ChannelValue: fmt.Append(nil, n), EventTime: telemetry.Time(n + 1), IngestTime: telemetry.Time(n + 1),
			}
			r := bus.Record{Value: telemetry.AppendMessage(nil, &m), Origin: bus.Origin{Position: bus.Position{Seq: uint64(n + 1)}}}
			if err := log.Append(t.Context(), bus.PartitionID{Topic: bus.Telemetry}, []bus.Record{r}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- stateprojector.Run(ctx, stateprojector.DefaultConfig(), stateprojector.Deps{
				Bus: log, Store: rows, Log: slog.New(slog.DiscardHandler), Now: time.Now,
			})
		}()
		<-time.After(5 * time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		latest := make(map[string]store.MessageRow)
		for _, r := range rows.rows {
			if r.Kind == telemetry.KindChannel && r.EventTime > latest[r.DeviceID].EventTime {
				latest[r.DeviceID] = r
			}
		}
		for d := range devices {
			if got, want := string(latest[fmt.Sprint("d", d)].ChannelValue), fmt.Sprint(messages-devices+d); got != want {
				t.Errorf("device %d: %q, want %q", d, got, want)
			}
		}
		if len(rows.rows) > messages/10 {
			t.Errorf("%d rows of %d messages of %d channels", len(rows.rows), messages, devices)
		}
	})
}
