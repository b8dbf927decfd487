package window

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// snapshotOf returns the snapshot of a task with many sorts of windows.
func snapshotOf(tb testing.TB, cfg Config, n int) []byte {
	tb.Helper()
	task, err := New(cfg, new(Stats))
	if err != nil {
		tb.Fatal(err)
	}
	var out Output
	for _, s := range samplesOf(rand.New(rand.NewPCG(7, uint64(n))), n) {
		s.ingest = s.at
		if err := task.Add(&out, bus.Telemetry, s.record()); err != nil {
			tb.Fatal(err)
		}
	}
	state, err := task.Snapshot(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return state
}

func everyKind() Config {
	cfg := aligned()
	cfg.Specs = append(cfg.Specs, Spec{Kind: Session, Gap: 5 * time.Second})
	return cfg
}

func TestARestoredTaskGivesTheSameSnapshot(t *testing.T) {
	for _, n := range []int{0, 1, 50, 5000} {
		state := snapshotOf(t, everyKind(), n)
		task, err := New(everyKind(), new(Stats))
		if err != nil {
			t.Fatal(err)
		}
		if err := task.Restore(state); err != nil {
			t.Fatal(err)
		}
		again, err := task.Snapshot(nil)
		if err != nil || !bytes.Equal(state, again) {
			t.Fatalf("%d records: snapshots of %d and %d bytes differ (%v)", n, len(state), len(again), err)
		}
	}
}

func TestASnapshotWithoutLatenessIsRead(t *testing.T) {
	state := snapshotOf(t, everyKind(), 50)
	task, err := New(everyKind(), new(Stats))
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Restore(append([]byte("MRW\x01"), state[12:]...)); err != nil {
		t.Fatal(err)
	}
	again, err := task.Snapshot(nil)
	if err != nil || !bytes.Equal(state, again) {
		t.Errorf("snapshots of %d and %d bytes differ (%v)", len(state), len(again), err)
	}
}

func TestWhatIsNoSnapshotIsRefused(t *testing.T) {
	good := snapshotOf(t, everyKind(), 50)
	cases := map[string][]byte{
		"nothing":         nil,
		"something else":  []byte("{}"),
		"a later version": append([]byte("MRW\x03"), good[4:]...),
		"no lateness":     append(append(bytes.Clone(good[:4]), bytes.Repeat([]byte{0xff}, 8)...), good[12:]...),
		"cut short":       good[:len(good)-1],
		"too long":        append(bytes.Clone(good), 0),
	}
	for i := range len(good) / 40 {
		cases[fmt.Sprint("cut at ", i*40)] = good[:i*40]
	}
	for name, state := range cases {
		task, err := New(everyKind(), new(Stats))
		if err != nil {
			t.Fatal(err)
		}
		if err := task.Restore(state); !errors.Is(err, ErrState) || !strings.HasPrefix(err.Error(), "restore windows: ") {
			t.Errorf("%s: %v, want ErrState", name, err)
		}
	}
}

func TestWindowsOfAnotherConfigurationAreNeverMixed(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	samples := samplesOf(rnd, 300)
	for i := range samples {
		samples[i].ingest = samples[i].at
	}
	before, after := aligned(), aligned()
	after.Specs = []Spec{{Kind: Tumbling, Length: time.Minute}, {Kind: Tumbling, Length: 30 * time.Second}}
	book := newTable(t)
	var out Output
	add := func(task *Task, part []sample) {
		for _, s := range part {
			if err := task.Add(&out, bus.Telemetry, s.record()); err != nil {
				t.Fatal(err)
			}
		}
	}
	old, err := New(before, new(Stats))
	if err != nil {
		t.Fatal(err)
	}
	add(old, samples[:150])
	state, err := old.Snapshot(nil)
	if err != nil {
		t.Fatal(err)
	}
	task, err := New(after, new(Stats))
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Restore(state); err != nil {
		t.Fatal(err)
	}
	add(task, samples[150:])
	finish(task, &out, book, samples[0].at)
	want := brute([]Spec{{Kind: Tumbling, Length: time.Minute}}, samples) // kept throughout
	for spec, part := range map[Spec][]sample{before.Specs[0]: samples[:150], before.Specs[2]: samples[:150], after.Specs[1]: samples[150:]} {
		maps.Copy(want, brute([]Spec{spec}, part))
	}
	book.wantSame(want)
}

func TestWhatNoWindowCanHoldIsRefused(t *testing.T) {
	good := telemetry.Message{DeviceID: "d", Kind: telemetry.KindChannel, ChannelKey: "t", Value: 1, HasValue: true, EventTime: 1, IngestTime: 1}
	inf := 1e308
	for name, c := range map[string]struct {
		change func(*telemetry.Message)
		want   string
	}{
		"no device":        {func(m *telemetry.Message) { m.DeviceID = "" }, "device_id: empty"},
		"infinite":         {func(m *telemetry.Message) { m.Value = inf * 10 }, "value: +Inf, want a finite number"},
		"not a number":     {func(m *telemetry.Message) { m.Value = inf*10 - inf*10 }, "value: NaN, want"},
		"an absurd moment": {func(m *telemetry.Message) { m.EventTime = maxTime }, "event_time 9223372036854775807"},
		"an absurd ingest": {func(m *telemetry.Message) { m.IngestTime = minTime }, "ingest_time -9223372036854775808"},
	} {
		t.Run(name, func(t *testing.T) {
			task, err := New(everyKind(), new(Stats))
			if err != nil {
				t.Fatal(err)
			}
			m := good
			c.change(&m)
			var out Output
			err = task.Add(&out, bus.Telemetry, bus.Record{Value: telemetry.AppendMessage(nil, &m)})
			if err == nil || !strings.Contains(err.Error(), c.want) || task.open > 0 || len(out.Rows) > 0 {
				t.Fatalf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestWhatIsNoNumberOnlyMovesTheClock(t *testing.T) {
	task, err := New(aligned(), new(Stats))
	if err != nil {
		t.Fatal(err)
	}
	var out Output
	add := func(m telemetry.Message) {
		m.DeviceID, m.Kind, m.IngestTime = "d", telemetry.KindChannel, m.EventTime
		if err := task.Add(&out, bus.Telemetry, bus.Record{Value: telemetry.AppendMessage(nil, &m)}); err != nil {
			t.Fatal(err)
		}
	}
	add(telemetry.Message{ChannelKey: "state", ChannelValue: []byte("open"), EventTime: second})
	add(telemetry.Message{ChannelKey: "t", Value: 1, HasValue: true, EventTime: second})
	add(telemetry.Message{ChannelKey: "state", ChannelValue: []byte("open"), EventTime: 40 * second})
	if len(out.Rows) != 2 || out.Rows[0].ChannelKey != "t" || len(task.list[0].channels) != 1 {
		t.Fatalf("%d rows, want the two windows of t that ended by 10 s", len(out.Rows))
	}
}

func FuzzRestore(f *testing.F) {
	for _, n := range []int{0, 1, 10, 100} {
		f.Add(snapshotOf(f, everyKind(), n))
	}
	f.Add(snapshotOf(f, defaults(), 20))
	f.Fuzz(func(t *testing.T, state []byte) {
		task, err := New(everyKind(), new(Stats))
		if err != nil {
			t.Fatal(err)
		}
		if task.Restore(state) != nil {
			return
		}
		var out Output
		s := sample{device: "d0", channel: "c0", at: 1_700_000_000 * second, ingest: 1_700_000_000 * second, seq: 1}
		if err := task.Add(&out, bus.Telemetry, s.record()); err != nil {
			t.Fatal(err)
		}
		task.Tick(&out, s.at+second, s.at+second)
		again, err := task.Snapshot(nil)
		if err != nil {
			t.Fatal(err)
		}
		next, err := New(everyKind(), new(Stats))
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Restore(again); err != nil {
			t.Fatalf("what was restored and written again cannot be restored: %v", err)
		}
		task.Tick(&out, eventTimeMax, eventTimeMax)
	})
}
