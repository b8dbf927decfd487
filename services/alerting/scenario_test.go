package alerting

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/alerting/internal/engine"
)

// A scenario is a text file: the configuration as YAML (nothing: the default one), a line of dashes, then one input a line,
// and below each what came out of it. Lines with => are rewritten with MILLRACE_UPDATE=1. Times are since 2026-01-01 UTC.
//
//	TIME[/EVENTTIME] DEVICE CHANNEL VALUE      a message, taken at TIME
//	TIME log DEVICE TEXT                       a critical log line
//	TIME window DEVICE CHANNEL start=… len=… [running] rev=… FIGURE=NUMBER…
//	TIME tick                                  the wall clock while nothing is unread
//	TIME ack|end RULE DEVICE [CHANNEL] by=…    an operator's wish for the newest alarm of these
//	restart [rules]                            snapshot, new engine, restore; with `rules` the other rules of the file's second YAML
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := playScenario(t, string(raw))
			if os.Getenv("MILLRACE_UPDATE") != "" {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(raw) {
				t.Errorf("%s differs (MILLRACE_UPDATE=1 rewrites it); got:\n%s", file, got)
			}
		})
	}
}

func scenarioStart() telemetry.Time {
	return telemetry.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
}

type player struct {
	t       *testing.T
	configs []Config
	engine  *engine.Engine
	out     engine.Output
	origin  uint64
	newest  map[string]string // alarm id by rule, device and channel
	ids     map[string]uint32 // newest revision by alarm id
}

func playScenario(t *testing.T, text string) string {
	t.Helper()
	p := &player{t: t, newest: make(map[string]string), ids: make(map[string]uint32)}
	parts := strings.Split(text, "\n---\n")
	script := parts[len(parts)-1]
	for _, yaml := range parts[:len(parts)-1] {
		cfg := DefaultConfig()
		if err := config.Load(config.Source{YAML: []byte(yaml), File: "scenario"}, &cfg); err != nil {
			t.Fatal(err)
		}
		p.configs = append(p.configs, cfg)
	}
	p.start(p.configs[0], nil)
	var b strings.Builder
	for _, yaml := range parts[:len(parts)-1] {
		b.WriteString(yaml + "\n---\n")
	}
	for line := range strings.Lines(script) {
		if strings.HasPrefix(strings.TrimSpace(line), "=>") {
			continue
		}
		b.WriteString(line)
		if input := strings.TrimSpace(line); input != "" && !strings.HasPrefix(input, "#") {
			b.WriteString(p.play(input))
		}
	}
	return b.String()
}

func (p *player) start(cfg Config, state []byte) {
	p.t.Helper()
	compiled, err := cfg.compiled()
	if err != nil {
		p.t.Fatal(err)
	}
	p.engine = engine.New(engine.Config{
		Rules: compiled, Flap: engine.Flap{Window: cfg.Flap.Window, Max: cfg.Flap.Max}, TracksMax: cfg.MaxTracked,
	})
	if state == nil {
		return
	}
	if err := p.engine.Restore(state); err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) play(line string) string {
	p.t.Helper()
	words := strings.Fields(line)
	if words[0] == "restart" {
		state, err := p.engine.Snapshot(nil)
		if err != nil {
			p.t.Fatal(err)
		}
		p.start(p.configs[min(len(words)-1, len(p.configs)-1)], state)
		return ""
	}
	taken, event, _ := strings.Cut(words[0], "/")
	now := p.at(taken)
	topic, r := p.record(now, p.at(cmpOr(event, taken)), words[1:])
	if topic == "" {
		p.engine.Tick(&p.out, now, now)
		return p.changes()
	}
	p.origin++
	r.Time, r.Origin = int64(now), bus.Origin{Position: bus.Position{Seq: p.origin}}
	if err := p.engine.Add(&p.out, topic, r); err != nil {
		return "  => refused: " + err.Error() + "\n"
	}
	return p.changes()
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func (p *player) at(text string) telemetry.Time {
	p.t.Helper()
	d, err := config.ParseDuration(text)
	if err != nil {
		p.t.Fatalf("%q: %v", text, err)
	}
	return scenarioStart().Add(d)
}

// record reads an input; the topic is empty for a tick.
func (p *player) record(now, event telemetry.Time, words []string) (topic string, r bus.Record) {
	p.t.Helper()
	switch words[0] {
	case "tick":
		return "", r
	case "log":
		m := telemetry.Message{
			Tenant: "default", DeviceID: words[1], Kind: telemetry.KindLog, Severity: telemetry.SeverityCritical,
			Text: strings.Join(words[2:], " "), EventTime: event, IngestTime: now,
		}
		return bus.Critical, bus.Record{Value: telemetry.AppendMessage(nil, &m)}
	case "window":
		return bus.Aggregates, bus.Record{Value: p.window(words[1:])}
	case "ack", "end":
		return bus.AlarmCommands, bus.Record{Value: p.command(words)}
	}
	value := strings.Join(words[2:], " ")
	m := telemetry.Message{
		Tenant: "default", DeviceID: words[0], Kind: telemetry.KindChannel, ChannelKey: words[1], ChannelValue: []byte(value),
		EventTime: event, IngestTime: now,
	}
	if v, err := strconv.ParseFloat(value, 64); err == nil {
		m.Value, m.HasValue = v, true
	}
	return bus.Telemetry, bus.Record{Value: telemetry.AppendMessage(nil, &m)}
}

func (p *player) window(words []string) []byte {
	p.t.Helper()
	a := telemetry.Aggregate{Tenant: "default", DeviceID: words[0], ChannelKey: words[1], Final: true, Count: 1, Revision: 1}
	for _, w := range words[2:] {
		name, text, _ := strings.Cut(w, "=")
		number, _ := strconv.ParseFloat(text, 64) // of those that are no numbers it is not used
		switch name {
		case "start":
			a.WindowStart = p.at(text)
		case "last":
			a.LastTime = p.at(text)
		case "len":
			a.WindowLength = int64(p.at(text).Sub(scenarioStart()))
		case "running":
			a.Final, a.Revision = false, 0
		case "rev":
			a.Revision = uint32(number)
		case "max":
			a.Max = number
		case "avg":
			a.Sum = number
		default:
			p.t.Fatalf("window: %s", w)
		}
	}
	return telemetry.AppendAggregate(nil, &a)
}

func (p *player) command(words []string) []byte {
	state := telemetry.AlarmAcknowledged
	if words[0] == "end" {
		state = telemetry.AlarmCleared
	}
	detail := make(map[string]string)
	var name []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			detail[k] = v
			continue
		}
		name = append(name, w)
	}
	id := p.newest[strings.Join(name, " ")]
	if id == "" {
		id = strings.Join(name, " ")
	}
	body, _ := json.Marshal(detail) // a map of texts always marshals
	return telemetry.AppendAlarm(nil, &telemetry.Alarm{AlarmID: id, State: state, Detail: body})
}

// changes tells what came out since the last call, and that it is what a change must be.
func (p *player) changes() string {
	p.t.Helper()
	var b strings.Builder
	for i, a := range p.out.Rows {
		var sent telemetry.Alarm
		if err := telemetry.ParseAlarm(p.out.Publish[i].Record.Value, &sent); err != nil || sent.AlarmID != a.AlarmID || sent.Revision != a.Revision {
			p.t.Errorf("row %d is %+v and the record says %+v (%v)", i, a, sent, err)
		}
		if a.Revision != p.ids[a.AlarmID]+1 {
			p.t.Errorf("alarm %s of rule %s: revision %d after %d", a.AlarmID, a.Rule, a.Revision, p.ids[a.AlarmID])
		}
		p.ids[a.AlarmID] = a.Revision
		p.newest[strings.TrimSpace(a.Rule+" "+a.DeviceID+" "+a.ChannelKey)] = a.AlarmID
		b.WriteString("  => " + describeAlarm(p.t, a) + "\n")
	}
	p.out.Rows, p.out.Publish = p.out.Rows[:0], p.out.Publish[:0]
	return b.String()
}

func describeAlarm(t *testing.T, a telemetry.Alarm) string {
	t.Helper()
	var d engine.Detail
	if err := json.Unmarshal(a.Detail, &d); err != nil {
		t.Error(err)
	}
	words := []string{d.Change, a.Severity, a.Rule, a.DeviceID}
	add := func(name, text string) {
		if text != "" {
			words = append(words, name+"="+text)
		}
	}
	add("channel", a.ChannelKey)
	add("value", a.Value)
	add("previous", a.PreviousValue)
	for _, at := range []struct {
		name string
		t    telemetry.Time
	}{{"raised", a.RaisedAt}, {"acked", a.AckedAt}, {"cleared", a.ClearedAt}} {
		if at.t != 0 {
			add(at.name, at.t.Sub(scenarioStart()).String())
		}
	}
	if d.Count > 1 {
		add("count", strconv.FormatUint(d.Count, 10))
	}
	if d.Flapping {
		words = append(words, fmt.Sprintf("flapping, flaps=%d", d.Flaps))
	}
	add("by", d.AcknowledgedBy)
	add("reason", d.Reason)
	add("summary", d.Summary)
	if want := map[string][]telemetry.AlarmState{
		engine.ChangeRaised: {telemetry.AlarmRaised}, engine.ChangeCleared: {telemetry.AlarmCleared},
		engine.ChangeAcknowledged: {telemetry.AlarmAcknowledged, telemetry.AlarmCleared},
		engine.ChangeUpdated:      {telemetry.AlarmRaised, telemetry.AlarmAcknowledged},
	}[d.Change]; !slices.Contains(want, a.State) {
		t.Errorf("change %s in state %s", d.Change, a.State)
	}
	return strings.Join(words, " ")
}
