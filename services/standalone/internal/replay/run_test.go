package replay

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	storemem "github.com/millrace/millrace/pkg/store/mem"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/aggregator"
)

func TestWindowsAreWholeHoweverSlowTheStoreIs(t *testing.T) {
	slow := func(d time.Duration) func(context.Context, storemem.Call) error {
		return func(ctx context.Context, c storemem.Call) error {
			if c.Op == storemem.OpWrite {
				wait(ctx, d)
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		faults storemem.Faults
		late   bool // the log took the records after the time that is replayed
	}{
		"quick":                                  {},
		"2 s":                                    {faults: storemem.Faults{Before: slow(2 * time.Second)}},
		"10 s":                                   {faults: storemem.Faults{Before: slow(10 * time.Second)}},
		"2 s, records that came late":            {faults: storemem.Faults{Before: slow(2 * time.Second)}, late: true},
		"10 s, records that came late":           {faults: storemem.Faults{Before: slow(10 * time.Second)}, late: true},
		"10 s to answer":                         {faults: storemem.Faults{After: slow(10 * time.Second)}},
		"10 s to answer, records that came late": {faults: storemem.Faults{After: slow(10 * time.Second)}, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if n := wantWholeWindows(t, c.faults, c.late); n != windowMessages {
					t.Errorf("%d records passed, want %d", n, windowMessages)
				}
			})
		})
	}
}

func TestAWorkerThatWasFencedOnceJoinsAgainAndTheReplayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fenced := false
		wantWholeWindows(t, storemem.Faults{Before: func(_ context.Context, c storemem.Call) error {
			if c.Op != storemem.OpWrite || fenced {
				return nil
			}
			fenced = true
			return store.ErrFenced
		}}, false)
	})
}

const windowMessages = 7200

// wantWholeWindows replays into windows, and returns how many records passed.
func wantWholeWindows(t *testing.T, faults storemem.Faults, late bool) (passed uint64) {
	t.Helper()
	h := newHouse(t)
	h.append(bus.Telemetry, upTo(0, windowMessages-1)...)
	until := telemetry.At(time.Now().Add(time.Second))
	if late {
		until = h.begin.Add(3 * time.Hour)
	}
	to := storemem.New()
	to.SetFaults(faults)
	windows := aggregator.DefaultConfig()
	windows.Windows, windows.CorrectWithin = []aggregator.WindowSpec{{Kind: "tumbling", Length: time.Minute}}, 0
	result, err := Run(t.Context(), Source{Log: h.log}, Target{Aggregates: to.Aggregates()}, Options{
		Worker: aggregator.Worker, From: h.begin, To: until, Marker: filepath.Join(h.dir, "marker.json"), Windows: windows, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := to.Rows().Aggregates
	if len(rows) != windowMessages/60 {
		t.Errorf("%d windows, want %d", len(rows), windowMessages/60)
	}
	for _, r := range rows {
		if r.Count != 60 || r.Revision != 1 {
			t.Errorf("the window of %v has %d messages, revision %d, want 60 at once", r.WindowStart.Std(), r.Count, r.Revision)
		}
	}
	return result.FromLog
}
