package engine_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/alerting/internal/engine"
)

const start = telemetry.Time(1_767_225_600_000_000_000) // 2026-01-01

func compile(tb testing.TB, r engine.Rule, condition, clear string) *engine.Rule {
	tb.Helper()
	var err error
	if r.Condition, err = engine.Compile(r.On, r.OnChange, condition); err != nil {
		tb.Fatal(err)
	}
	if r.Clear, err = engine.Compile(r.On, r.OnChange, clear); err != nil {
		tb.Fatal(err)
	}
	if r.Severity == "" {
		r.Severity = "warning"
	}
	return &r
}

// everySort returns one rule of each sort.
func everySort(tb testing.TB) []*engine.Rule {
	tb.Helper()
	up := 3.0
	return []*engine.Rule{
		compile(tb, engine.Rule{Name: "hot", Channel: "t", For: 5 * time.Second}, "hasValue && value > 6", "hasValue && value < 4"),
		compile(tb, engine.Rule{Name: "change", Channel: "t*", OnChange: true}, `hasOldValue && oldValue < 5.0`, ""),
		compile(tb, engine.Rule{Name: "rate", Channel: "t", Rate: &engine.Rate{Per: 10 * time.Second, Above: &up}, ClearFor: 3 * time.Second}, "", ""),
		compile(tb, engine.Rule{Name: "silent", Silent: 8 * time.Second}, "", ""),
		compile(tb, engine.Rule{Name: "critical", On: engine.Critical, ClearFor: 9 * time.Second}, "", ""),
		compile(tb, engine.Rule{Name: "wind", On: engine.Aggregates, Window: 10 * time.Second, Running: true}, "max > 7", "max < 3"),
	}
}

func channel(device, key, value string, number float64, at telemetry.Time) []byte {
	m := telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: device, Kind: telemetry.KindChannel, ChannelKey: key, ChannelValue: []byte(value),
		Value: number, HasValue: true, EventTime: at, IngestTime: at,
	}
	return telemetry.AppendMessage(nil, &m)
}

// tape is a run of records and ticks.
type tape []struct {
	topic string // "" is a tick
	at    telemetry.Time
	rec   bus.Record
}

func newTape(seed uint64, n int) tape {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make(tape, n)
	at := start
	for i := range out {
		at = at.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
		e := &out[i]
		e.at = at
		device := fmt.Sprintf("d%d", r.IntN(3))
		switch r.IntN(10) {
		case 0:
			continue
		case 1:
			m := telemetry.Message{Tenant: "default", DeviceID: device, Kind: telemetry.KindLog, Severity: telemetry.SeverityCritical, Text: "no", EventTime: at, IngestTime: at}
			e.topic, e.rec.Value = bus.Critical, telemetry.AppendMessage(nil, &m)
		case 2:
			w := at - at%telemetry.Time(10*time.Second)
			a := telemetry.Aggregate{
				Tenant: "default", DeviceID: device, ChannelKey: "t", WindowStart: w, WindowLength: int64(10 * time.Second), Count: 1,
				Max: float64(r.IntN(10)), Final: r.IntN(3) > 0, Revision: uint32(r.IntN(3)), LastTime: at,
			}
			e.topic, e.rec.Value = bus.Aggregates, telemetry.AppendAggregate(nil, &a)
		default:
			v := r.IntN(10)
			e.topic, e.rec.Value = bus.Telemetry, channel(device, "t", fmt.Sprint(v), float64(v), at.Add(-time.Duration(r.IntN(2))*time.Second))
		}
		e.rec.Time = int64(at)
		e.rec.Origin = bus.Origin{Position: bus.Position{Seq: uint64(i + 1)}}
	}
	return out
}

// play returns what comes out of the tape; before each entry for which restart is true, the engine is made anew from its state.
func (p tape) play(tb testing.TB, restart func(int) bool) []telemetry.Alarm {
	tb.Helper()
	cfg := engine.Config{Rules: everySort(tb), Flap: engine.Flap{Window: time.Minute, Max: 3}}
	e := engine.New(cfg)
	var out engine.Output
	for i, entry := range p {
		if restart(i) {
			state, err := e.Snapshot(nil)
			if err != nil {
				tb.Fatal(err)
			}
			e = engine.New(cfg)
			if err := e.Restore(state); err != nil {
				tb.Fatal(err)
			}
			again, err := e.Snapshot(nil)
			if err != nil || !bytes.Equal(state, again) {
				tb.Fatalf("the state that was restored is another one (%v)", err)
			}
		}
		if entry.topic == "" {
			e.Tick(&out, entry.at, entry.at)
		} else if err := e.Add(&out, entry.topic, entry.rec); err != nil {
			tb.Fatal(err)
		}
	}
	return out.Rows
}

func TestARestartAtAnyPointChangesNothing(t *testing.T) {
	for seed := range uint64(20) {
		p := newTape(seed, 300)
		want := p.play(t, func(int) bool { return false })
		if len(want) < 20 {
			t.Fatalf("seed %d: only %d changes, the test says little", seed, len(want))
		}
		got := p.play(t, func(i int) bool { return i%7 == int(seed%7) })
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("seed %d: with restarts the changes differ", seed)
		}
	}
}

func TestEachAlarmIsRaisedOnceEndsOnceAndCountsItsRevisions(t *testing.T) {
	for seed := range uint64(50) {
		type life struct {
			revision uint32
			ended    bool
		}
		lives := make(map[string]*life)
		active := make(map[string]string)
		for _, a := range newTape(seed, 400).play(t, func(int) bool { return false }) {
			l := lives[a.AlarmID]
			if l == nil {
				l = new(life)
				lives[a.AlarmID] = l
				key := strings.Join([]string{a.Rule, a.DeviceID, a.ChannelKey}, "/")
				if other := active[key]; other != "" && !lives[other].ended {
					t.Errorf("seed %d: %s: a second alarm while one is raised", seed, key)
				}
				active[key] = a.AlarmID
			}
			if l.ended || a.Revision != l.revision+1 || a.RaisedAt == 0 || a.ClearedAt != 0 && a.ClearedAt < a.RaisedAt {
				t.Errorf("seed %d: after revision %d, ended %t: %+v", seed, l.revision, l.ended, a)
			}
			l.revision, l.ended = a.Revision, a.State == telemetry.AlarmCleared
		}
	}
}

func TestWhatCannotBeReadIsRefusedAndChangesNothing(t *testing.T) {
	e := engine.New(engine.Config{Rules: everySort(t)})
	before, _ := e.Snapshot(nil)
	var out engine.Output
	for _, topic := range append(engine.Topics(), "elsewhere") {
		if err := e.Add(&out, topic, bus.Record{Value: []byte("\xff\xff")}); err == nil {
			t.Errorf("%s: no error", topic)
		}
	}
	wrong := telemetry.Alarm{AlarmID: "x", State: "raised"}
	if err := e.Add(&out, bus.AlarmCommands, bus.Record{Value: telemetry.AppendAlarm(nil, &wrong)}); err == nil || !strings.Contains(err.Error(), "want acknowledged or cleared") {
		t.Errorf("a command to raise: %v", err)
	}
	after, _ := e.Snapshot(nil)
	if len(out.Rows) > 0 || !bytes.Equal(before, after) {
		t.Errorf("rows %v, state %x, before %x", out.Rows, after, before)
	}
}

func TestALongValueIsCutAndItsChangesAreStillSeen(t *testing.T) {
	e := engine.New(engine.Config{Rules: []*engine.Rule{compile(t, engine.Rule{Name: "c", OnChange: true}, "", "")}})
	var out engine.Output
	long := strings.Repeat("ä", 20_000)
	for i, value := range []string{long + "1", long + "1", long + "2", long + "2", "short"} {
		if err := e.Add(&out, bus.Telemetry, bus.Record{Value: channel("d", "c", value, 0, start.Add(time.Duration(i)))}); err != nil {
			t.Fatal(err)
		}
	}
	if len(out.Rows) != 3 { // raised; cleared and raised
		t.Fatalf("%d changes, want 3", len(out.Rows))
	}
	if v := out.Rows[0].Value; len(v) > 1024 || !strings.HasSuffix(v, "ä…") {
		t.Errorf("value of %d bytes, its end %q", len(v), v[len(v)-5:])
	}
}

func TestWhereNothingIsIdleTheNewIsCountedAndNotFollowed(t *testing.T) {
	var told []string
	e := engine.New(engine.Config{
		Rules: []*engine.Rule{compile(t, engine.Rule{Name: "s", Silent: time.Minute}, "", "")}, TracksMax: 2,
		Hooks: engine.Hooks{Untracked: func(_, device, _ string) { told = append(told, device) }},
	})
	var out engine.Output
	for _, device := range []string{"a", "b", "c", "a"} {
		if err := e.Add(&out, bus.Telemetry, bus.Record{Value: channel(device, "x", "1", 1, start)}); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(told) != "[c]" {
		t.Errorf("told of %v, want c", told)
	}
}

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		glob, text string
		want       bool
	}{
		{"", "", true},
		{"*", "", true},
		{"*", "a", true},
		{"?", "", false},
		{"a*c", "abbc", true},
		{"a*c", "abcd", false},
		{"window-*", "window-kitchen", true},
		{"*b*b", "abb", true},
		{"a?c", "abc", true},
		{"a", "ab", false},
		{"**a", "a", true},
	} {
		if got := engine.MatchGlob(c.glob, c.text); got != c.want {
			t.Errorf("%q, %q: %t", c.glob, c.text, got)
		}
	}
}

func FuzzRestoreTakesAnyBytes(f *testing.F) {
	rules := everySort(f)
	e := engine.New(engine.Config{Rules: rules, Flap: engine.Flap{Window: time.Minute, Max: 3}})
	var out engine.Output
	for i, entry := range newTape(1, 120) {
		if entry.topic == "" {
			e.Tick(&out, entry.at, entry.at)
		} else if err := e.Add(&out, entry.topic, entry.rec); err != nil {
			f.Fatal(err)
		}
		if i%30 == 0 {
			state, err := e.Snapshot(nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(state)
			f.Add(state[:len(state)/2])
		}
	}
	f.Add([]byte{1})
	f.Add([]byte{2})
	tail := newTape(2, 20)
	f.Fuzz(func(t *testing.T, state []byte) {
		e := engine.New(engine.Config{Rules: rules, Flap: engine.Flap{Window: time.Minute, Max: 3}})
		if err := e.Restore(state); err != nil {
			return
		}
		first, err := e.Snapshot(nil)
		if err != nil {
			t.Fatal(err)
		}
		again := engine.New(engine.Config{Rules: rules, Flap: engine.Flap{Window: time.Minute, Max: 3}})
		if err := again.Restore(first); err != nil {
			t.Fatalf("what was restored cannot be restored again: %v", err)
		}
		second, err := again.Snapshot(nil)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("the state changes by being saved (%v)", err)
		}
		var out engine.Output
		for _, entry := range tail { // whatever the state, it can go on
			e.Tick(&out, entry.at, entry.at)
			if entry.topic != "" {
				if err := e.Add(&out, entry.topic, entry.rec); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func benchmark(b *testing.B, rules []*engine.Rule, devices int) {
	b.Helper()
	e := engine.New(engine.Config{Rules: rules})
	records := make([]bus.Record, devices)
	for i := range records {
		records[i].Value = channel(fmt.Sprintf("device-%d", i), "temperature", "21.5", 21.5, start)
	}
	var out engine.Output
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := e.Add(&out, bus.Telemetry, records[i%devices]); err != nil {
			b.Fatal(err)
		}
	}
}

func hundred(b *testing.B) []*engine.Rule {
	b.Helper()
	var rules []*engine.Rule
	for i := range 100 {
		rules = append(rules, compile(b, engine.Rule{Name: fmt.Sprint(i), Channel: fmt.Sprintf("channel-%d", i)}, "value > 30", ""))
	}
	return rules
}

func BenchmarkAMessageThatNoneOfAHundredRulesWants(b *testing.B) { benchmark(b, hundred(b), 1000) }

func BenchmarkAMessageWithoutAnyRule(b *testing.B) { benchmark(b, nil, 1000) }

func BenchmarkAMessageThatADeadManRuleHears(b *testing.B) {
	benchmark(b, append(hundred(b), compile(b, engine.Rule{Name: "silent", Silent: time.Minute}, "", "")), 1000)
}

func BenchmarkAMessageThatOneRuleJudges(b *testing.B) {
	benchmark(b, append(hundred(b), compile(b, engine.Rule{Name: "hot", Channel: "temperature"}, "value > 30", "")), 1000)
}

func BenchmarkSnapshotOfAThousandDevices(b *testing.B) {
	e := engine.New(engine.Config{Rules: []*engine.Rule{compile(b, engine.Rule{Name: "silent", Silent: time.Minute}, "", "")}})
	var out engine.Output
	for i := range 1000 {
		if err := e.Add(&out, bus.Telemetry, bus.Record{Value: channel(fmt.Sprintf("device-%d", i), "t", "1", 1, start)}); err != nil {
			b.Fatal(err)
		}
	}
	var state []byte
	for b.Loop() {
		var err error
		if state, err = e.Snapshot(state[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(state)), "bytes")
}
