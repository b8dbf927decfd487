package window

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func tumbling(length time.Duration) Spec { return Spec{Kind: Tumbling, Length: length} }
func hopping(length, hop time.Duration) Spec {
	return Spec{Kind: Hopping, Length: length, Hop: hop}
}

// restarted returns a task of another configuration with old's state, and what it told of the change.
func restarted(t *testing.T, old *Task, cfg Config) (task *Task, told []string) {
	t.Helper()
	state, err := old.Snapshot(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Changed = func(what string) { told = append(told, what) }
	if task, err = New(cfg, new(Stats)); err != nil {
		t.Fatal(err)
	}
	if err := task.Restore(state); err != nil {
		t.Fatal(err)
	}
	return task, told
}

func feed(t *testing.T, task *Task, out *Output, samples []sample) {
	t.Helper()
	for _, s := range samples {
		if err := task.Add(out, "", s.record()); err != nil {
			t.Fatal(err)
		}
	}
}

// wantAcross is what the store holds in the end where part of the samples came under one configuration and the rest under the next:
// windows that both have are whole, where a new spec shares a window with an old one both parts are in it, and otherwise each
// holds what came while its spec was in force.
func wantAcross(before, after []Spec, first, rest []sample) map[string]string {
	all := slices.Concat(first, rest)
	want := brute(before, first)
	for _, spec := range after {
		whole, part := brute([]Spec{spec}, all), brute([]Spec{spec}, rest)
		for key, row := range whole {
			_, stored := want[key]
			switch {
			case stored || slices.Contains(before, spec):
				want[key] = row
			case part[key] != "":
				want[key] = part[key]
			}
		}
	}
	return want
}

func TestEachChangeOfTheWindowsIsToldAndMixesNothing(t *testing.T) {
	ten, minute := tumbling(10*time.Second), tumbling(time.Minute)
	session := Spec{Kind: Session, Gap: 5 * time.Second}
	for _, c := range []struct {
		name          string
		before, after []Spec
		change        func(*Config)
		told          []string // the beginning of each
	}{
		{"nothing", []Spec{ten, minute}, []Spec{ten, minute}, nil, nil},
		{"another order", []Spec{ten, minute}, []Spec{minute, ten}, nil, nil},
		{"one more", []Spec{ten}, []Spec{ten, minute}, nil, []string{"windows tumbling 1m0s are new"}},
		{"one less", []Spec{ten, minute}, []Spec{ten}, nil, []string{"windows tumbling 1m0s are no more: "}},
		{"another length", []Spec{ten}, []Spec{minute}, nil, []string{"windows tumbling 1m0s are new", "windows tumbling 10s are no more: "}},
		{
			"another kind of the same length",
			[]Spec{minute},
			[]Spec{hopping(time.Minute, 20*time.Second)},
			nil,
			[]string{"windows hopping 1m0s every 20s are new", "windows tumbling 1m0s are no more: "},
		},
		{
			"and back",
			[]Spec{hopping(time.Minute, 20*time.Second)},
			[]Spec{minute},
			nil,
			[]string{"windows tumbling 1m0s are new", "windows hopping 1m0s every 20s are no more: "},
		},
		{
			"another hop",
			[]Spec{hopping(time.Minute, 20*time.Second)},
			[]Spec{hopping(time.Minute, 15*time.Second)},
			nil,
			[]string{"windows hopping 1m0s every 15s are new", "windows hopping 1m0s every 20s are no more: "},
		},
		{
			"a longer lateness",
			[]Spec{ten, minute},
			[]Spec{ten, minute},
			func(c *Config) { c.Lateness = 2 * time.Minute },
			[]string{"lateness was 30s and is 2m0s"},
		},
		{
			"a shorter lateness",
			[]Spec{ten, minute},
			[]Spec{ten, minute},
			func(c *Config) { c.Lateness = 0 },
			[]string{"lateness was 30s and is 0s"},
		},
		{"a longer correct_within", []Spec{ten}, []Spec{ten}, func(c *Config) { c.CorrectWithin = 5 * time.Hour }, nil},
		{"fewer devices in memory", []Spec{ten, minute}, []Spec{ten, minute}, func(c *Config) { c.DevicesMax = 1 }, nil},
		{"fewer channels in memory", []Spec{ten, minute}, []Spec{ten, minute}, func(c *Config) { c.ChannelsMax = 1 }, nil},
		{"fewer windows in memory", []Spec{ten, minute}, []Spec{ten, minute}, func(c *Config) { c.WindowsMax = 1 }, nil},
		{"no running values", []Spec{ten, minute}, []Spec{ten, minute}, func(c *Config) { c.RunningEvery = 0 }, nil},
		{"a session goes", []Spec{ten, session}, []Spec{ten}, nil, []string{"windows session with gap 5s are no more: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(5) {
				wantChange(t, seed, c.before, c.after, c.change, c.told)
			}
		})
	}
}

func wantChange(t *testing.T, seed uint64, before, after []Spec, change func(*Config), wantTold []string) {
	t.Helper()
	samples := samplesOf(rand.New(rand.NewPCG(seed, 3)), 300)
	for i := range samples {
		samples[i].ingest = samples[i].at
	}
	cfg := aligned()
	cfg.Lateness, cfg.Specs = 30*time.Second, before
	old, err := New(cfg, new(Stats))
	if err != nil {
		t.Fatal(err)
	}
	book, out := newTable(t), Output{}
	feed(t, old, &out, samples[:150])
	book.take(&out) // a snapshot and the rows before it are one commit
	cfg.Specs = after
	if change != nil {
		change(&cfg)
	}
	task, told := restarted(t, old, cfg)
	if len(told) != len(wantTold) || !slices.EqualFunc(told, wantTold, strings.HasPrefix) {
		t.Errorf("told %q, want %q", told, wantTold)
	}
	feed(t, task, &out, samples[150:])
	finish(task, &out, book, samples[0].at)
	if isSession := func(s Spec) bool { return s.Kind == Session }; !slices.ContainsFunc(before, isSession) {
		book.wantSame(wantAcross(before, after, samples[:150], samples[150:]))
	}
}

func TestASpecThatComesBackIsNewAndDoesNotGoOnWithAGap(t *testing.T) {
	samples := samplesOf(rand.New(rand.NewPCG(5, 5)), 300)
	for i := range samples {
		samples[i].ingest = samples[i].at
	}
	with, without := aligned(), aligned()
	with.Specs, without.Specs = []Spec{tumbling(10 * time.Second), tumbling(time.Minute)}, []Spec{tumbling(10 * time.Second)}
	task, err := New(with, new(Stats))
	if err != nil {
		t.Fatal(err)
	}
	book, out := newTable(t), Output{}
	feed(t, task, &out, samples[:100])
	book.take(&out)
	task, _ = restarted(t, task, without)
	feed(t, task, &out, samples[100:200]) // and killed before the clock has ticked
	book.take(&out)
	task, told := restarted(t, task, with)
	if want := "windows tumbling 1m0s are new"; len(told) != 1 || !strings.HasPrefix(told[0], want) {
		t.Errorf("told %q, want %q", told, want)
	}
	feed(t, task, &out, samples[200:])
	finish(task, &out, book, samples[0].at)
	want := brute([]Spec{tumbling(10 * time.Second)}, samples)
	maps.Copy(want, brute([]Spec{tumbling(time.Minute)}, slices.Concat(samples[:100], samples[200:])))
	book.wantSame(want)
}

// An older binary that meets the state of a newer one, or the reverse, refuses it and says which versions; it never guesses.
func TestTheStateOfAnotherVersionIsRefused(t *testing.T) {
	for _, version := range []byte{0, snapshotVersion + 1, 255} {
		state := snapshotOf(t, aligned(), 50)
		state[len(snapshotMagic)] = version
		task, err := New(aligned(), new(Stats))
		if err != nil {
			t.Fatal(err)
		}
		err = task.Restore(state)
		if want := fmt.Sprintf("version %d, want at most %d", version, snapshotVersion); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("version %d: %v, want %q", version, err, want)
		}
	}
}
