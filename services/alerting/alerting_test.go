package alerting_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/alerting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is a store of alarms in memory, with transactions: rows, progress and checkpoint change together.
type table struct {
	mu       sync.Mutex
	rows     map[string]telemetry.Alarm
	progress map[bus.PartitionID]bus.Progress
	states   map[string][]byte
}

func newTable() *table {
	return &table{rows: make(map[string]telemetry.Alarm), progress: make(map[bus.PartitionID]bus.Progress), states: make(map[string][]byte)}
}

func (s *table) Write(_ context.Context, commit store.Commit, rows []telemetry.Alarm) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range commit.Spans {
		if s.progress[span.Partition].Through != span.After {
			return store.ErrFenced
		}
	}
	for i := range rows {
		if rows[i].Revision >= s.rows[rows[i].AlarmID].Revision {
			s.rows[rows[i].AlarmID] = rows[i].Clone()
		}
	}
	for _, span := range commit.Spans {
		s.progress[span.Partition] = span.Through.Clone()
	}
	s.states[commit.Task] = slices.Clone(commit.Checkpoint)
	return nil
}

func (s *table) Progress(_ context.Context, _ string, p bus.PartitionID) (bus.Progress, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	progress, ok := s.progress[p]
	return progress.Clone(), ok, nil
}

func (s *table) Checkpoint(_ context.Context, _, task string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.states[task]
	return slices.Clone(state), ok, nil
}

func (s *table) all() map[string]telemetry.Alarm {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.rows)
}

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type tester struct {
	t     *testing.T
	log   *mem.Log
	store *table
	said  *lines
	cfg   alerting.Config
	n     uint64
	stop  func()
}

func newTester(t *testing.T) *tester {
	t.Helper()
	return &tester{t: t, log: mem.New(mem.Config{Now: time.Now}), store: newTable(), said: new(lines), cfg: alerting.DefaultConfig()}
}

// start runs the worker; stop ends it and waits.
func (w *tester) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	log := w.log
	go func() {
		done <- alerting.Run(ctx, w.cfg, alerting.Deps{
			Bus: log, Store: w.store, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(w.said, nil)), Now: time.Now,
		})
	}()
	w.stop = func() {
		w.t.Helper()
		cancel()
		if err := <-done; err != nil && log == w.log {
			w.t.Errorf("run: %v", err)
		}
	}
}

func (w *tester) append(topic string, value []byte) {
	w.t.Helper()
	w.n++
	rec := bus.Record{Origin: bus.Origin{Position: bus.Position{Seq: w.n}}, Value: value}
	if topic == bus.AlarmCommands {
		rec.Origin = bus.Origin{}
	}
	if err := w.log.Append(w.t.Context(), bus.PartitionID{Topic: topic}, []bus.Record{rec}); err != nil {
		w.t.Fatal(err)
	}
}

// say has a device send, and a router pass it on.
func (w *tester) say(device, channel, value string) {
	w.t.Helper()
	w.append(bus.Telemetry, w.message(device, channel, value))
}

// take has a device send what no router has seen yet.
func (w *tester) take(device, channel, value string) {
	w.t.Helper()
	w.append(bus.Ingested, w.message(device, channel, value))
}

func (w *tester) message(device, channel, value string) []byte {
	now := telemetry.At(time.Now())
	m := telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: device, Kind: telemetry.KindChannel, ChannelKey: channel, ChannelValue: []byte(value),
		EventTime: now, IngestTime: now,
	}
	if _, err := fmt.Sscan(value, &m.Value); err == nil {
		m.HasValue = true
	}
	return telemetry.AppendMessage(nil, &m)
}

func (w *tester) alarm(rule string) telemetry.Alarm {
	w.t.Helper()
	var found []telemetry.Alarm
	for _, a := range w.store.all() {
		if a.Rule == rule {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("%d alarms of %s, want 1: %+v", len(found), rule, found)
	}
	return found[0]
}

// published returns "state rule" of each change on the topic alarms.
func (w *tester) published() []string {
	w.t.Helper()
	var out []string
	for _, r := range w.log.Records(bus.PartitionID{Topic: bus.Alarms}) {
		var a telemetry.Alarm
		if err := telemetry.ParseAlarm(r.Value, &a); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s %d", a.State, a.Rule, a.Revision))
	}
	return out
}

func TestAnAlarmIsRaisedAcknowledgedAndCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		for range 12 {
			w.say("thermostat-2", "temperature", "39.5")
			<-time.After(time.Second)
		}
		a := w.alarm("thermostat-high")
		if a.State != telemetry.AlarmRaised || a.Severity != "error" || a.Value != "39.5" || a.Revision != 1 {
			t.Fatalf("raised: %+v", a)
		}
		w.append(bus.AlarmCommands, telemetry.AppendAlarm(nil, &telemetry.Alarm{
			AlarmID: a.AlarmID, State: telemetry.AlarmAcknowledged, Detail: []byte(`{"by":"anna","note":"on my way"}`),
		}))
		w.append(bus.AlarmCommands, telemetry.AppendAlarm(nil, &telemetry.Alarm{AlarmID: "nobody", State: telemetry.AlarmAcknowledged}))
		<-time.After(time.Second)
		if a = w.alarm("thermostat-high"); a.State != telemetry.AlarmAcknowledged || a.AckedAt == 0 || !strings.Contains(string(a.Detail), `"acknowledged_by":"anna","note":"on my way"`) {
			t.Fatalf("acknowledged: %+v, %s", a, a.Detail)
		}
		w.say("thermostat-2", "temperature", "37.5")
		<-time.After(time.Second)
		if a = w.alarm("thermostat-high"); a.State != telemetry.AlarmCleared || a.ClearedAt <= a.RaisedAt {
			t.Fatalf("cleared: %+v", a)
		}
		w.stop()
		if got := fmt.Sprint(w.published()); !strings.Contains(got, "raised thermostat-high 1 acknowledged thermostat-high 2") || !strings.Contains(got, "cleared thermostat-high 3") {
			t.Errorf("published %s", got)
		}
		for _, want := range []string{`level=ERROR msg="alarm raised" rule=thermostat-high`, `level=INFO msg="alarm cleared" rule=thermostat-high`, "by=anna"} {
			if !strings.Contains(w.said.String(), want) {
				t.Errorf("%s is not in the log:\n%s", want, w.said.String())
			}
		}
		letters := w.log.Records(bus.PartitionID{Topic: bus.DeadLetters})
		var d telemetry.DeadLetter
		if len(letters) != 1 || telemetry.ParseDeadLetter(letters[0].Value, &d) != nil || d.Worker != "alerting" || !strings.Contains(d.Reason, `alarm "nobody": no such alarm`) {
			t.Errorf("%d dead letters, %+v", len(letters), d)
		}
	})
}

func TestASilentDeviceIsMissedAcrossARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.say("thermostat-3", "setpoint", "37")
		<-time.After(30 * time.Second)
		w.stop()
		w.start()
		<-time.After(50 * time.Second) // the time in which nobody listened does not count
		if n := len(w.store.all()); n != 0 {
			t.Errorf("%d alarms a short while after a restart", n)
		}
		<-time.After(15 * time.Second)
		a := w.alarm("device-silent")
		if a.State != telemetry.AlarmRaised || a.DeviceID != "thermostat-3" || a.ChannelKey != "" {
			t.Errorf("raised: %+v", a)
		}
		w.say("thermostat-3", "setpoint", "37")
		<-time.After(2 * time.Second)
		w.stop()
		if a = w.alarm("device-silent"); a.State != telemetry.AlarmCleared {
			t.Errorf("cleared: %+v", a)
		}
	})
}

func TestNobodyIsSilentBecauseTheRouterIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		routed := 0
		route := func() { // what a router does: it appends, then commits
			all := w.log.Records(bus.PartitionID{Topic: bus.Ingested})
			for _, r := range all[routed:] {
				w.append(bus.Telemetry, r.Value)
			}
			routed = len(all)
			ctx, cancel := context.WithCancel(t.Context())
			if err := w.log.Subscribe(ctx, bus.Router, []string{bus.Ingested}, func(_ context.Context, s bus.Share) error {
				cancel()
				return s.Partitions[0].Commit(t.Context(), bus.Progress{Through: all[len(all)-1].Position})
			}); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		w.take("thermostat-4", "setpoint", "37")
		route()
		for range 30 { // ten minutes, in which the device sends and nothing is routed
			<-time.After(20 * time.Second)
			w.take("thermostat-4", "setpoint", "37")
		}
		if all := w.store.all(); len(all) != 0 {
			t.Errorf("alarms while the router was down: %+v", all)
		}
		route()
		<-time.After(30 * time.Second)
		if all := w.store.all(); len(all) != 0 {
			t.Errorf("alarms when it was back: %+v", all)
		}
		<-time.After(time.Minute)
		if a := w.alarm("device-silent"); a.State != telemetry.AlarmRaised {
			t.Errorf("when the device was silent indeed: %+v", a)
		}
		w.stop()
	})
}

func TestACrashWritesTheSameAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.cfg.CommitEvery = 5 * time.Second
		w.start()
		for i := range 40 {
			w.say("camera-door", "motion", []string{"false", "true"}[i%2])
			<-time.After(700 * time.Millisecond)
			if i%9 == 4 {
				old := w.log
				w.log = old.Open()
				old.Crash()
				w.stop()
				w.start()
			}
		}
		<-time.After(10 * time.Second)
		w.stop()
		cleared, raised := 0, 0
		for _, a := range w.store.all() {
			switch {
			case a.Rule != "motion":
			case a.State == telemetry.AlarmCleared:
				cleared++
			default:
				raised++
			}
		}
		if cleared != 19 || raised != 1 {
			t.Errorf("%d alarms have cleared and %d are raised, want 19 and 1", cleared, raised)
		}
	})
}

func TestATargetThatIsAddedLaterIsNotToldOfThePastAndNobodyTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.say("camera-door", "motion", "false")
		w.say("camera-door", "motion", "true") // before the very first start: the first alarm of all is told
		w.start()
		<-time.After(3 * time.Second)
		w.stop()
		w.cfg.Notify = append(w.cfg.Notify, alerting.Target{Name: "other", Log: true, MinSeverity: "warning"}, alerting.Target{Name: "third", Log: true, Rules: []string{"mot*"}})
		w.start()
		<-time.After(3 * time.Second)
		if n := strings.Count(w.said.String(), "alarm raised"); n != 1 {
			t.Errorf("told %d times, want once:\n%s", n, w.said.String())
		}
		w.say("camera-door", "motion", "false")
		<-time.After(3 * time.Second)
		w.stop()
		if n := strings.Count(w.said.String(), "alarm cleared"); n != 2 { // an info is not for the target of warnings
			t.Errorf("told %d times that it has cleared, want by log and by third:\n%s", n, w.said.String())
		}
	})
}

// receiver is a real HTTP server that fails, is slow, then works.
type receiver struct {
	mu   sync.Mutex
	seen int
	got  []string // state and revision of what it took
	keys map[string]int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var a struct {
		Rule, State string
		Revision    int
	}
	if err != nil || json.Unmarshal(body, &a) != nil {
		http.Error(w, "torn", http.StatusInternalServerError)
		return
	}
	r.mu.Lock()
	r.seen++
	n := r.seen
	r.mu.Unlock()
	switch {
	case a.Rule == "unwanted":
		http.Error(w, "we do not want it", http.StatusUnprocessableEntity)
		return
	case n == 1:
		http.Error(w, "down", http.StatusBadGateway)
		return
	case n == 2:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "slowly", http.StatusTooManyRequests)
		return
	case n == 3:
		<-req.Context().Done() // until the client gives up
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, fmt.Sprintf("%s %s.%d", a.Rule, a.State, a.Revision))
	r.keys[req.Header.Get("Idempotency-Key")]++
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func TestAWebhookThatFailsThenIsSlowThenWorksGetsEverythingInOrder(t *testing.T) {
	r := &receiver{keys: make(map[string]int)}
	server := httptest.NewServer(r)
	defer server.Close()
	w := newTester(t)
	w.cfg.Notify = []alerting.Target{{Name: "hook", Webhook: &alerting.Webhook{URL: server.URL, Timeout: 200 * time.Millisecond}}}
	w.cfg.Rules = []alerting.Rule{
		{Name: "motion", Channel: "motion", OnChange: true, Condition: `new == "true"`},
		{Name: "unwanted", Channel: "noise", Condition: "value > 1"},
	}
	w.start()
	for _, v := range []string{"false", "true", "false", "true", "false"} {
		w.say("camera", "motion", v)
	}
	w.say("camera", "noise", "2")
	want := []string{"motion raised.1", "motion cleared.2", "motion raised.1", "motion cleared.2"}
	letters := func() int { return len(w.log.Records(bus.PartitionID{Topic: bus.DeadLetters})) }
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && (len(r.taken()) < len(want) || letters() < 1); {
		<-time.After(10 * time.Millisecond)
	}
	w.stop()
	if got := r.taken(); !slices.Equal(got, want) {
		t.Errorf("took %v, want %v", got, want)
	}
	for key, n := range r.keys {
		if n != 1 {
			t.Errorf("%s was taken %d times", key, n)
		}
	}
	var d telemetry.DeadLetter
	if letters() != 1 {
		t.Fatalf("%d dead letters, want that of what was not wanted", letters())
	}
	if err := telemetry.ParseDeadLetter(w.log.Records(bus.PartitionID{Topic: bus.DeadLetters})[0].Value, &d); err != nil ||
		d.Worker != alerting.NotifyGroup("hook") || !strings.Contains(d.Reason, "422") || !strings.Contains(d.Reason, "we do not want it") || !strings.Contains(string(d.Payload), "unwanted") {
		t.Errorf("dead letter %+v (%v)", d, err)
	}
}

func TestATargetThatIsDownDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.cfg.Notify = []alerting.Target{{Name: "hook", Webhook: &alerting.Webhook{URL: "http://127.0.0.1:1", Timeout: time.Second}}}
		w.cfg.Notify[0].Webhook.URL = "http://[::1]:0" // refused at once, without a socket to wait for
		w.start()
		w.say("camera-door", "motion", "false")
		w.say("camera-door", "motion", "true")
		<-time.After(5 * time.Second)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the end took %v", took)
		}
		if a := w.alarm("motion"); a.State != telemetry.AlarmRaised {
			t.Errorf("%+v", a)
		}
		if !strings.Contains(w.said.String(), "it will be after the restart") {
			t.Errorf("nobody said that the target was not told:\n%s", w.said.String())
		}
	})
}
