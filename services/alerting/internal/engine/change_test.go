package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/alerting/internal/engine"
)

// rig is an engine that can be made anew from its state with other rules.
type rig struct {
	t      *testing.T
	engine *engine.Engine
	out    engine.Output
	told   []string
	seq    uint64
}

func newRig(t *testing.T, rules ...*engine.Rule) *rig {
	t.Helper()
	r := &rig{t: t}
	r.make(engine.Config{Rules: rules})
	return r
}

func (r *rig) make(cfg engine.Config) {
	r.told = nil
	cfg.Hooks.RuleChanged = func(rule string, there bool, alarms, kept int) {
		r.told = append(r.told, fmt.Sprintf("%s there=%t alarms=%d kept=%d", rule, there, alarms, kept))
	}
	r.engine = engine.New(cfg)
}

func (r *rig) restart(cfg engine.Config) {
	r.t.Helper()
	state, err := r.engine.Snapshot(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.make(cfg)
	if err := r.engine.Restore(state); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) say(device, key, value string, number float64, second int) {
	r.t.Helper()
	r.seq++
	at := start.Add(time.Duration(second) * time.Second)
	rec := bus.Record{Time: int64(at), Origin: bus.Origin{Position: bus.Position{Seq: r.seq}}, Value: channel(device, key, value, number, at)}
	if err := r.engine.Add(&r.out, bus.Telemetry, rec); err != nil {
		r.t.Fatal(err)
	}
}

// tickTo lets time pass a second at a time, so that it counts as watched.
func (r *rig) tickTo(from, to int) {
	for s := from; s <= to; s++ {
		at := start.Add(time.Duration(s) * time.Second)
		r.engine.Tick(&r.out, at, at)
	}
}

// open returns the alarms that are not cleared, as a store that keeps the highest revision of each shows them.
func (r *rig) open() []string {
	newest := map[string]telemetry.Alarm{}
	for _, a := range r.out.Rows {
		if old, known := newest[a.AlarmID]; !known || a.Revision > old.Revision {
			newest[a.AlarmID] = a
		}
	}
	var all []string
	for _, a := range newest {
		if a.State != telemetry.AlarmCleared {
			all = append(all, a.Rule+" "+a.Severity+" "+a.DeviceID+" "+a.ChannelKey)
		}
	}
	slices.Sort(all)
	return all
}

func TestEachChangeOfARuleIsToldAndMixesNothing(t *testing.T) {
	hot := func(change func(*engine.Rule)) func(testing.TB) *engine.Rule {
		return func(tb testing.TB) *engine.Rule {
			tb.Helper()
			r := engine.Rule{Name: "hot", Channel: "t", For: 2 * time.Second, Summary: "hot"}
			if change != nil {
				change(&r)
			}
			return compile(tb, r, "hasValue && value > 6", "hasValue && value < 4")
		}
	}
	other := func(tb testing.TB) *engine.Rule {
		tb.Helper()
		return compile(tb, engine.Rule{Name: "other", Channel: "t"}, "hasValue && value > 100", "")
	}
	const changed, gone = "hot there=true alarms=1 kept=2", "hot there=false alarms=1 kept=0"
	for _, c := range []struct {
		name  string
		after []func(testing.TB) *engine.Rule
		told  []string
		open  string // after the restart and a tick
	}{
		{"nothing", []func(testing.TB) *engine.Rule{hot(nil), other}, nil, "[hot warning a t]"},
		{"another order", []func(testing.TB) *engine.Rule{other, hot(nil)}, nil, "[hot warning a t]"},
		{"another sentence", []func(testing.TB) *engine.Rule{hot(func(r *engine.Rule) { r.Summary = "very hot" }), other}, nil, "[hot warning a t]"},
		{"removed", []func(testing.TB) *engine.Rule{other}, []string{gone}, "[]"},
		{"renamed", []func(testing.TB) *engine.Rule{hot(func(r *engine.Rule) { r.Name = "warm" }), other}, []string{gone}, "[]"},
		{"severity", []func(testing.TB) *engine.Rule{hot(func(r *engine.Rule) { r.Severity = "error" }), other}, []string{changed}, "[]"},
		{"for", []func(testing.TB) *engine.Rule{hot(func(r *engine.Rule) { r.For = time.Second }), other}, []string{changed}, "[]"},
		{"clear_for", []func(testing.TB) *engine.Rule{hot(func(r *engine.Rule) { r.ClearFor = time.Second }), other}, []string{changed}, "[]"},
		{"a wider channel", []func(testing.TB) *engine.Rule{hot(func(r *engine.Rule) { r.Channel = "t*" }), other}, []string{changed}, "[]"},
		{"another channel", []func(testing.TB) *engine.Rule{hot(func(r *engine.Rule) { r.Channel = "u" }), other}, []string{"hot there=true alarms=1 kept=0"}, "[]"},
		{"some devices", []func(testing.TB) *engine.Rule{hot(func(r *engine.Rule) { r.Device = "a" }), other}, []string{"hot there=true alarms=1 kept=1"}, "[]"},
		{"the condition", []func(testing.TB) *engine.Rule{func(tb testing.TB) *engine.Rule {
			tb.Helper()
			return compile(tb, engine.Rule{Name: "hot", Channel: "t", For: 2 * time.Second}, "hasValue && value > 7", "hasValue && value < 4")
		}, other}, []string{changed}, "[]"},
		{"the hysteresis", []func(testing.TB) *engine.Rule{func(tb testing.TB) *engine.Rule {
			tb.Helper()
			return compile(tb, engine.Rule{Name: "hot", Channel: "t", For: 2 * time.Second}, "hasValue && value > 6", "hasValue && value < 5")
		}, other}, []string{changed}, "[]"},
		{"another sort", []func(testing.TB) *engine.Rule{func(tb testing.TB) *engine.Rule {
			tb.Helper()
			return compile(tb, engine.Rule{Name: "hot", On: engine.Aggregates, Window: time.Minute}, "max > 6", "")
		}, other}, []string{"hot there=true alarms=1 kept=0"}, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, hot(nil)(t), other(t))
			for s := range 5 {
				r.say("a", "t", "9", 9, s)
			}
			r.say("b", "t", "9", 9, 4) // pending: it has not held for long enough
			if got := fmt.Sprint(r.open()); got != "[hot warning a t]" {
				t.Fatalf("raised are %s", got)
			}
			var rules []*engine.Rule
			for _, rule := range c.after {
				rules = append(rules, rule(t))
			}
			r.restart(engine.Config{Rules: rules})
			if !slices.Equal(r.told, c.told) {
				t.Errorf("told %q, want %q", r.told, c.told)
			}
			r.tickTo(5, 5)
			if got := fmt.Sprint(r.open()); got != c.open {
				t.Errorf("raised are %s, want %s", got, c.open)
			}
			for _, a := range r.out.Rows {
				if a.State == telemetry.AlarmCleared && !strings.Contains(string(a.Detail), "its rule was changed or taken away") {
					t.Errorf("cleared without that reason: %s", a.Detail)
				}
			}
		})
	}
}

// A device that had fallen silent when its rule was changed says nothing more, so the other rule must miss it by itself; and the
// alarm is another one than the former rule's, also where both are of the same silence, and the rule is changed back and forth.
func TestADeviceThatIsSilentWhenItsRuleIsChangedIsStillMissed(t *testing.T) {
	silent := func(severity string, after time.Duration) *engine.Rule {
		return compile(t, engine.Rule{Name: "silent", Severity: severity, Silent: after}, "", "")
	}
	first := silent("warning", 8*time.Second)
	r := newRig(t, first)
	r.say("a", "t", "1", 1, 0)
	r.tickTo(1, 15)
	if got := fmt.Sprint(r.open()); got != "[silent warning a ]" {
		t.Fatalf("raised are %s", got)
	}
	at := 15
	for _, next := range []*engine.Rule{silent("error", 8*time.Second), first, silent("error", 8*time.Second), silent("error", 20*time.Second), first} {
		r.restart(engine.Config{Rules: []*engine.Rule{next}})
		r.tickTo(at+1, at+2)
		r.restart(engine.Config{Rules: []*engine.Rule{next}}) // another one, which must not forget that the rule was changed
		r.tickTo(at+3, at+12)
		at += 12
		if got, want := fmt.Sprint(r.open()), "[silent "+next.Severity+" a ]"; got != want {
			t.Fatalf("after a change to %s, %v: raised are %s, want %s", next.Severity, next.Silent, got, want)
		}
	}
}

func TestWhatWasSaidWithTheLastWordsAndComesAfterTheAlarmDoesNotEndIt(t *testing.T) {
	r := newRig(t, compile(t, engine.Rule{Name: "silent", Severity: "warning", Silent: 8 * time.Second}, "", ""))
	r.say("a", "t", "1", 1, 0)
	r.tickTo(1, 15)
	r.say("a", "u", "2", 2, 0) // the edge took it at the same time, and the log later
	r.tickTo(16, 30)
	if got := fmt.Sprint(r.open()); got != "[silent warning a ]" {
		t.Errorf("raised are %s", got)
	}
}

func TestAChangeAcrossARestartWithAnotherRuleIsSeen(t *testing.T) {
	change := func(severity string) *engine.Rule {
		return compile(t, engine.Rule{Name: "change", Severity: severity, Channel: "t", OnChange: true}, "", "")
	}
	r := newRig(t, change("info"))
	r.say("a", "t", "on", 0, 0)
	r.restart(engine.Config{Rules: []*engine.Rule{change("warning")}})
	r.say("a", "t", "off", 0, 1)
	if got := fmt.Sprint(r.open()); got != "[change warning a t]" {
		t.Errorf("raised are %s, want the change from on to off", got)
	}
}

func TestALowerLimitOfTracksIsKeptAfterARestart(t *testing.T) {
	rule := compile(t, engine.Rule{Name: "hot", Channel: "t"}, "hasValue && value > 6", "")
	r := newRig(t, rule)
	for i := range 100 {
		r.say(fmt.Sprint("d", i), "t", "1", 1, i)
	}
	before, err := r.engine.Snapshot(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.restart(engine.Config{Rules: []*engine.Rule{rule}, TracksMax: 10})
	after, err := r.engine.Snapshot(nil)
	if err != nil || len(after) > len(before)/5 {
		t.Errorf("the state has %d bytes of %d, want that of 10 of 100 tracks (%v)", len(after), len(before), err)
	}
}

// An older binary that meets the state of a newer one refuses it and says which versions.
func TestTheStateOfAnotherVersionIsRefused(t *testing.T) {
	err := engine.New(engine.Config{}).Restore([]byte{2, 0, 0, 0, 0, 0})
	if err == nil || !strings.Contains(err.Error(), "version 2, want 1") {
		t.Errorf("%v, want both versions", err)
	}
}
