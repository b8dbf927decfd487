package live_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/live"
)

func TestEventsStreamAsTheyHappenAndGoOnWhereTheyBroke(t *testing.T) {
	f := start(t, nil)
	s := f.follow(t, "?streams=state&device=dev*")
	f.say(t, "other", "n", "0")
	for n := range 3 {
		f.say(t, "dev1", "n", fmt.Sprint(n+1))
	}
	var last sse
	for n := range 3 {
		e, ok := s.next()
		if !ok || e.name != "state" || !strings.Contains(e.data, fmt.Sprintf(`"channel_value":"%d"`, n+1)) {
			t.Fatalf("event %d: %+v", n, e)
		}
		if n == 0 {
			last = e
		}
	}
	s.close()
	f.say(t, "dev1", "n", "4")
	for _, again := range []*stream{
		f.follow(t, "?streams=state&device=dev*", "Last-Event-ID", last.id),
		f.follow(t, "?streams=state&device=dev*&after="+last.id),
	} {
		for n := 2; n <= 4; n++ {
			e, ok := again.next()
			if !ok || !strings.Contains(e.data, fmt.Sprintf(`"channel_value":"%d"`, n)) {
				t.Fatalf("after the first, event %d: %+v", n, e)
			}
		}
	}
}

func TestAClientThatHasSeenNothingYetStillMissesNothing(t *testing.T) {
	f := start(t, nil)
	s := f.follow(t, "")
	var id string
	for s.lines.Scan() && id == "" {
		id, _ = strings.CutPrefix(s.lines.Text(), "id: ")
		if id == s.lines.Text() {
			id = ""
		}
	}
	s.close()
	f.say(t, "dev1", "n", "1")
	if e, ok := f.follow(t, "", "Last-Event-ID", id).next(); !ok || !strings.Contains(e.data, `"dev1"`) {
		t.Errorf("event %+v", e)
	}
}

func TestTooManySubscribersAreRefusedInWords(t *testing.T) {
	f := start(t, func(c *live.Config, _ *live.Deps) { c.Feed.Subscribers = 1; c.NATS = false })
	f.follow(t, "")
	code, h, body := f.ask(t, "GET", "/v1/live", "")
	if code != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || !strings.Contains(body, "live.feed.subscribers") {
		t.Errorf("%d %s", code, body)
	}
}

func TestASubscriberThatTakesNothingIsToldWhatItMissed(t *testing.T) {
	f := start(t, func(c *live.Config, _ *live.Deps) { c.Feed.QueueRecords = 4; c.SSE.WriteTimeout = patience })
	s := f.follow(t, "?streams=state")
	quick := f.follow(t, "?streams=state&device=last")
	big := strings.Repeat("x", 200_000) // fills the socket's buffers, so that the queue has to bear the rest
	const total = 400
	for n := range total {
		f.say(t, "dev1", "n", fmt.Sprintf("%d:%s", n, big))
	}
	f.say(t, "last", "n", "1")
	if e, ok := quick.next(); !ok || !strings.Contains(e.data, `"last"`) {
		t.Fatal("the other subscriber was held up")
	}
	seen, missed := 0, 0
	for {
		e, ok := s.next()
		if !ok {
			t.Fatalf("the stream ended after %d events, %d missed", seen, missed)
		}
		if e.name == "missed" {
			var body struct{ Missed int }
			must(t, json.Unmarshal([]byte(e.data), &body))
			missed += body.Missed
			continue
		}
		seen++
		if strings.Contains(e.data, `"last"`) {
			break
		}
	}
	if missed == 0 || seen+missed != total+1 {
		t.Errorf("%d seen, %d missed, want %d together", seen, missed, total+1)
	}
}

func TestAnEventIsThereWithinMilliseconds(t *testing.T) {
	f := start(t, nil)
	s := f.follow(t, "?streams=state")
	var worst time.Duration
	for n := range 50 {
		began := time.Now()
		f.say(t, "dev1", "n", fmt.Sprint(n))
		if _, ok := s.next(); !ok {
			t.Fatal("the stream ended")
		}
		worst = max(worst, time.Since(began))
	}
	if worst > time.Second { // a timer on the way would show; a busy machine must not
		t.Errorf("the slowest event took %v", worst)
	}
	t.Logf("the slowest of 50 took %v", worst)
}

// revocable is one token that may be revoked.
type revocable struct {
	mu sync.Mutex
	c  *access.Credential
}

func (r *revocable) Authenticate(secret string) (*access.Credential, error) {
	if secret != "secret" {
		return nil, access.ErrRefused
	}
	return r.InForce("id")
}

func (r *revocable) InForce(string) (*access.Credential, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.c == nil {
		return nil, access.ErrRefused
	}
	return r.c, nil
}

func TestATokenDecidesWhoMayAsk(t *testing.T) {
	keys := &revocable{c: &access.Credential{ID: "id", Name: "dashboard", Scopes: []access.Scope{access.ScopeRead}}}
	f := start(t, func(_ *live.Config, d *live.Deps) { d.Auth = keys })
	for _, c := range []struct {
		method, path, authorization string
		want                        int
	}{
		{"GET", "/v1/devices", "", 401},
		{"GET", "/v1/devices", "Bearer wrong", 401},
		{"GET", "/v1/devices", "Basic secret", 401},
		{"GET", "/v1/devices", "bearer secret", 200},
		{"POST", "/v1/alarms/a1/ack", "Bearer secret", 403},
		{"GET", "/v1/live", "", 401},
		{"GET", "/", "", 200},
		{"GET", "/v1/openapi.yaml", "", 200},
	} {
		if code, _, body := f.ask(t, c.method, c.path, "", "Authorization", c.authorization); code != c.want {
			t.Errorf("%s %s with %q: %d %s, want %d", c.method, c.path, c.authorization, code, body, c.want)
		}
	}
	s := f.follow(t, "", "Authorization", "Bearer secret")
	keys.mu.Lock()
	keys.c = nil
	keys.mu.Unlock()
	if e, ok := s.next(); ok {
		t.Errorf("the stream of a revoked token went on: %+v", e)
	}
}

func TestEventsArePublishedOnSubjects(t *testing.T) {
	type sent struct{ subject, data string }
	got := make(chan sent, 10)
	fail := errors.New("not now")
	var mu sync.Mutex
	refuse := false
	f := start(t, func(_ *live.Config, d *live.Deps) {
		d.Publish = func(subject string, data []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if refuse {
				refuse = false
				return fail
			}
			got <- sent{subject, string(data)}
			return nil
		}
	})
	next := func() sent {
		t.Helper()
		select {
		case s := <-got:
			return s
		case <-time.After(patience):
			t.Fatal("nothing is published")
			return sent{}
		}
	}
	for following := false; !following; { // what is said before it follows is nothing to it
		f.say(t, "first", "n", "0")
		select {
		case <-got:
			following = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	f.say(t, "first", "mark", "0")
	for next().subject != "live.state.first.mark" {
		continue // the others of the first
	}
	mu.Lock()
	refuse = true
	mu.Unlock()
	f.say(t, "lost", "n", "1")
	f.say(t, "lost", "my.temp *>%ü", "1")
	if s := next(); s.subject != "live.state.lost.my%2Etemp%20%2A%3E%25ü" || !strings.Contains(s.data, `"channel_value":"1"`) {
		t.Errorf("%s %s", s.subject, s.data)
	}
	must(t, f.log.Append(context.Background(), bus.PartitionID{Topic: bus.Logs}, []bus.Record{{Value: telemetry.AppendMessage(nil, &telemetry.Message{DeviceID: "-", Kind: telemetry.KindLog})}}))
	if s := next(); s.subject != "live.logs.%2D.-" {
		t.Error(s.subject)
	}
}

func TestWhoBeginsToListenMissesNothing(t *testing.T) {
	got := make(chan string, 10)
	asked := make(chan bool) // each look for listeners waits for the test's answer
	done := make(chan struct{})
	f := start(t, func(_ *live.Config, d *live.Deps) {
		d.Publish = func(_ string, data []byte) error {
			got <- string(data)
			return nil
		}
		d.Listened = func() bool {
			select {
			case listening := <-asked:
				return listening
			case <-done:
				return true
			}
		}
	})
	t.Cleanup(func() { close(done) })
	asked <- false
	f.say(t, "dev1", "n", "before the next look")
	s := f.follow(t, "?streams=state") // the hub has passed what was said once a later event is here
	f.say(t, "dev1", "n", "later")
	if _, ok := s.next(); !ok {
		t.Fatal("the stream ended")
	}
	asked <- true
	for _, want := range []string{"before the next look", "later"} {
		select {
		case event := <-got:
			if !strings.Contains(event, want) {
				t.Errorf("published %s, want %q first", event, want)
			}
		case <-time.After(patience):
			t.Fatalf("%q is not published", want)
		}
	}
}

func TestAnAcknowledgementIsAnsweredWithTheAlarm(t *testing.T) {
	f := start(t, nil)
	f.fill(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	commands := make(chan telemetry.Alarm, 4)
	var alerting sync.WaitGroup
	defer alerting.Wait()
	defer stop()
	for n := range 2 {
		p, err := f.log.Partition(ctx, bus.PartitionID{Topic: bus.AlarmCommands, Number: n})
		must(t, err)
		alerting.Go(func() { // in alerting's place
			for batch, err := range p.After(ctx, bus.Start{}) {
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range batch.Records {
					var a telemetry.Alarm
					if err := telemetry.ParseAlarm(r.Value, &a); err != nil {
						t.Error(err)
					}
					a = a.Clone()
					if want := bus.PartitionOf(a.Tenant, a.DeviceID, 2); n != want {
						t.Errorf("the command is in partition %d, want that of its device, %d", n, want)
					}
					commands <- a
					a.AckedAt, a.RaisedAt, a.Revision = f.at+5, f.at, 2
					if err := f.db.Alarms().Write(ctx, commit("alarms"), []telemetry.Alarm{a}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	code, _, body := f.ask(t, "POST", "/v1/alarms/a1/ack", `{"by":"Ana","note":"on my way"}`)
	if code != http.StatusOK || !strings.Contains(body, `"state":"acknowledged"`) || !strings.Contains(body, `"acked_at":"2026-03-01T12:00:00.480850705Z"`) {
		t.Errorf("%d %s", code, body)
	}
	if a := <-commands; a.AlarmID != "a1" || string(a.Detail) != `{"by":"Ana","note":"on my way"}` {
		t.Errorf("command %+v", a)
	}
	if code, _, _ := f.ask(t, "POST", "/v1/alarms/a1/ack", ""); code != http.StatusOK || len(commands) != 0 {
		t.Errorf("once more: %d, %d commands; want 200 and none", code, len(commands))
	}
}

func TestAnAcknowledgementThatTakesLongerIsAccepted(t *testing.T) {
	f := start(t, func(c *live.Config, _ *live.Deps) { c.Query.AckWait = 10 * time.Millisecond })
	f.fill(t)
	code, _, body := f.ask(t, "POST", "/v1/alarms/a1/ack", "")
	if code != http.StatusAccepted || !strings.Contains(body, `"state":"raised"`) {
		t.Errorf("%d %s", code, body)
	}
}
