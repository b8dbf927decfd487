package window

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// TestScenarios plays the files of testdata: commands, and below each the rows and running values that come of it, behind
// "=>". MILLRACE_UPDATE=1 rewrites them. The commands:
//
//	windows tumbling 10s; hopping 1m 10s; session 5s   makes a fresh task
//	lateness 30s / correct 1h / running 1s / devices 1 / channels 1 / open 1   before it
//	add 12:00:01.5 device/channel 21.5 [ingest 12:00:03]   the ingest time is the event time, where it is not said
//	tick 12:00:40 [idle]
//	restart [windows …]   a snapshot, and a fresh task that restores it
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newScenario(t).play(string(text))
			if got == string(text) {
				return
			}
			if os.Getenv("MILLRACE_UPDATE") != "" {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s gives\n%s", file, got)
		})
	}
}

type scenario struct {
	t     *testing.T
	cfg   Config
	stats *Stats
	task  *Task
	out   Output
	book  *table
	seq   uint64
	late  uint64 // what stats.TooLate said before
}

func newScenario(t *testing.T) *scenario {
	t.Helper()
	return &scenario{t: t, cfg: defaults(), book: newTable(t)}
}

func (s *scenario) play(text string) string {
	s.t.Helper()
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "=>") {
			continue
		}
		out = append(out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s.do(strings.Fields(line))
		out = append(out, s.outcome()...)
	}
	return strings.Join(out, "\n") + "\n"
}

func (s *scenario) do(words []string) {
	s.t.Helper()
	switch words[0] {
	case "windows":
		s.windows(words[1:])
		s.stats, s.late = new(Stats), 0
		s.task = s.fresh()
	case "lateness":
		s.cfg.Lateness = s.duration(words[1])
	case "correct":
		s.cfg.CorrectWithin = s.duration(words[1])
	case "running":
		s.cfg.RunningEvery = s.duration(words[1])
	case "devices":
		s.cfg.DevicesMax = s.number(words[1])
	case "channels":
		s.cfg.ChannelsMax = s.number(words[1])
	case "open":
		s.cfg.WindowsMax = s.number(words[1])
	case "add":
		s.add(words[1:])
	case "tick":
		now, through := s.moment(words[1]), telemetry.Time(0)
		if slices.Contains(words, "idle") {
			through = now
		}
		s.task.Tick(&s.out, now, through)
	case "restart":
		state, err := s.task.Snapshot(nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(words) > 1 {
			s.windows(words[2:])
		}
		s.task = s.fresh()
		if err := s.task.Restore(state); err != nil {
			s.t.Fatal(err)
		}
	default:
		s.t.Fatalf("unknown command %q", words[0])
	}
}

func (s *scenario) fresh() *Task {
	s.t.Helper()
	task, err := New(s.cfg, s.stats)
	if err != nil {
		s.t.Fatal(err)
	}
	return task
}

func (s *scenario) windows(words []string) {
	s.t.Helper()
	s.cfg.Specs = nil
	for spec := range strings.SplitSeq(strings.Join(words, " "), ";") {
		w := strings.Fields(spec)
		switch w[0] {
		case "tumbling":
			s.cfg.Specs = append(s.cfg.Specs, Spec{Kind: Tumbling, Length: s.duration(w[1])})
		case "hopping":
			s.cfg.Specs = append(s.cfg.Specs, Spec{Kind: Hopping, Length: s.duration(w[1]), Hop: s.duration(w[2])})
		case "session":
			s.cfg.Specs = append(s.cfg.Specs, Spec{Kind: Session, Gap: s.duration(w[1])})
		}
	}
}

func (s *scenario) add(words []string) {
	s.t.Helper()
	s.seq++
	device, channel, _ := strings.Cut(words[1], "/")
	value, err := strconv.ParseFloat(words[2], 64)
	if err != nil {
		s.t.Fatal(err)
	}
	m := sample{device: device, channel: channel, at: s.moment(words[0]), value: value, seq: s.seq}
	m.ingest = m.at
	if len(words) > 4 {
		m.ingest = s.moment(words[4])
	}
	if err := s.task.Add(&s.out, bus.Telemetry, m.record()); err != nil {
		s.t.Fatal(err)
	}
}

// outcome tells what came out, and takes it.
func (s *scenario) outcome() []string {
	s.t.Helper()
	var lines []string
	for i := range s.out.Rows {
		what := "row    "
		if IsDelta(&s.out.Rows[i]) {
			what = "delta  "
		}
		lines = append(lines, "=> "+what+describe(&s.out.Rows[i].Aggregate))
	}
	for _, p := range s.out.Publish {
		var a telemetry.Aggregate
		if err := telemetry.ParseAggregate(p.Record.Value, &a); err != nil || a.Final || p.Topic != bus.Aggregates {
			s.t.Fatalf("published %+v, %v", p, err)
		}
		lines = append(lines, "=> running "+describe(&a))
	}
	if s.stats != nil && s.stats.TooLate() > s.late {
		lines = append(lines, fmt.Sprintf("=> too late for %d", s.stats.TooLate()-s.late))
		s.late = s.stats.TooLate()
	}
	s.book.take(&s.out)
	return lines
}

func describe(a *telemetry.Aggregate) string {
	return fmt.Sprintf("%s/%s %s +%v: count %d, min %v, max %v, sum %v, first %v, last %v, p50 %v, p95 %v", a.DeviceID, a.ChannelKey,
		a.WindowStart.Std().Format("15:04:05.999"), time.Duration(a.WindowLength), a.Count, a.Min, a.Max, a.Sum, a.First, a.Last, a.P50, a.P95)
}

func (s *scenario) moment(text string) telemetry.Time {
	s.t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", "2024-05-01 "+text)
	if err != nil {
		s.t.Fatal(err)
	}
	return telemetry.At(at)
}

func (s *scenario) duration(text string) time.Duration {
	s.t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *scenario) number(text string) int {
	s.t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
