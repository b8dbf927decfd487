package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store/postgres"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// TestKillTheServerBetweenWrites holds the store to its promises where a crash is the server's.
func TestKillTheServerBetweenWrites(t *testing.T) {
	e := enginetest.Need(t, "postgres")
	var harness func(t *testing.T, cfg postgres.Config) storetest.AlarmStore
	harness = func(t *testing.T, cfg postgres.Config) storetest.AlarmStore {
		t.Helper()
		db := open(t, cfg)
		return storetest.AlarmStore{
			AlarmWriter: db.Alarms(),
			Read: func(t *testing.T) []telemetry.Alarm {
				t.Helper()
				return all(t, db)
			},
			Crash: func(t *testing.T) storetest.AlarmStore {
				t.Helper()
				e.Kill(t, 1)
				e.Start(t, 1)
				return harness(t, cfg)
			},
		}
	}
	storetest.Alarms(t, func(t *testing.T) storetest.AlarmStore {
		t.Helper()
		return harness(t, fresh(t))
	})
}

// TestKillTheServerAmidWrites kills the server while a writer repeats each write until it is confirmed: every write is there
// once, and rows, progress and checkpoint are of the same one.
func TestKillTheServerAmidWrites(t *testing.T) {
	const kills, between, each = 4, 40, 5
	e := enginetest.Need(t, "postgres")
	cfg := fresh(t)
	db := open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	confirmed := make(chan uint64)
	done := make(chan error, 1)
	go func() {
		defer close(confirmed)
		done <- func() error {
			for i := range uint64(kills * between) {
				rows := make([]telemetry.Alarm, each)
				for j := range rows {
					rows[j] = alarm(fmt.Sprintf("a%d", j), uint32(i+1))
				}
				rows = append(rows, alarm(fmt.Sprintf("own-%d", i), 1))
				c := commitOf(i, i+1)
				c.Task, c.Checkpoint = "0", fmt.Appendf(nil, "%d", i+1)
				for {
					err := db.Alarms().Write(ctx, c, rows)
					if err == nil {
						break
					}
					if ctx.Err() != nil {
						return err
					}
				}
				confirmed <- i + 1
			}
			return nil
		}()
	}()
	for n := range confirmed {
		if n%between == between/2 {
			go drain(confirmed, between/4) // so that the kill meets a write under way
			e.Kill(t, 1)
			e.Start(t, 1)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := len(all(t, db)); n != kills*between+each {
		t.Errorf("%d alarms, want %d", n, kills*between+each)
	}
	p, ok, err := db.Alarms().Progress(t.Context(), "test", bus.PartitionID{Topic: "telemetry"})
	if err != nil || !ok || p.Through.Seq != kills*between {
		t.Errorf("progress is %v (%v, %v), want %d", p, ok, err, kills*between)
	}
	if all(t, db)[0].Revision != kills*between {
		t.Errorf("the newest revision is %d", all(t, db)[0].Revision)
	}
}

// drain takes up to n values.
func drain(from <-chan uint64, n int) {
	for range n {
		if _, ok := <-from; !ok {
			return
		}
	}
}
