package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/alerting/internal/notify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func alarm() telemetry.Alarm {
	return telemetry.Alarm{
		AlarmID: "0123abc", Tenant: "default", Rule: "thermostat-high", DeviceID: "thermostat-1", ChannelKey: "temperature",
		Severity: "error", State: telemetry.AlarmRaised, Value: "39.5", PreviousValue: "38.9",
		RaisedAt: telemetry.Time(1_767_225_600_000_000_000), Detail: []byte(`{"change":"raised","summary":"Zu warm: 39.5 °C"}`), Revision: 1,
	}
}

func now() time.Time { return time.Date(2026, 1, 1, 0, 0, 5, 0, time.UTC) }

// hook is a real server whose answers a test sets.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	answer http.HandlerFunc
	got    []*http.Request
	bodies []string
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a torn body is a test's fault and shows
		h.mu.Lock()
		h.got, h.bodies = append(h.got, r), append(h.bodies, string(body))
		answer := h.answer
		h.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) webhook() *notify.Webhook {
	return &notify.Webhook{
		URL: h.URL + "/alarms?token=t0k3n", Secret: []byte("s3cret"), Headers: http.Header{"Authorization": {"Bearer x"}},
		Timeout: 5 * time.Second, Now: now,
		Client: &http.Client{
			Transport:     h.Client().Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func answer(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		http.Error(w, "no way", code)
	}
}

func TestAWebhookIsSignedAndBearsItsKey(t *testing.T) {
	h := newHook(t)
	a := alarm()
	if err := h.webhook().Deliver(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	r, body := h.got[0], h.bodies[0]
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer x" || r.Header.Get("Idempotency-Key") != "0123abc.1" {
		t.Errorf("%s with headers %v", r.Method, r.Header)
	}
	stamp, sum, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Millrace-Signature"), "t="), ",v1=")
	mac := hmac.New(sha256.New, []byte("s3cret"))
	mac.Write([]byte(stamp + "." + body))
	if stamp != "1767225605" || sum != hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("signature %q of %s", r.Header.Get("Millrace-Signature"), body)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"alarm_id": "0123abc", "revision": 1.0, "tenant": "default", "rule": "thermostat-high", "device_id": "thermostat-1", "channel_key": "temperature",
		"severity": "error", "state": "raised", "value": "39.5", "previous_value": "38.9", "raised_at": "2026-01-01T00:00:00Z", "acked_at": nil, "cleared_at": nil,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	if fmt.Sprint(got["detail"]) != "map[change:raised summary:Zu warm: 39.5 °C]" {
		t.Errorf("detail is %v", got["detail"])
	}
}

func TestWhatAnAnswerOfAWebhookMeans(t *testing.T) {
	const passing, refused = "passing", "refused"
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // or the wait
	}{
		{"200", answer(200), ""},
		{"202", answer(202), ""},
		{"500", answer(500), passing},
		{"502", answer(502), passing},
		{"503", answer(503), passing},
		{"408", answer(408), passing},
		{"429", answer(429), passing},
		{"429 with seconds", answer(429, "Retry-After", "7"), "7s"},
		{"503 with a date", answer(503, "Retry-After", "Thu, 01 Jan 2026 00:00:35 GMT"), "30s"},
		{"429 with rubbish", answer(429, "Retry-After", "soon"), passing},
		{"400", answer(400), refused},
		{"401", answer(401), refused},
		{"404", answer(404), refused},
		{"410", answer(410), refused},
		{"a redirect", answer(307, "Location", "/elsewhere"), refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHook(t)
			h.answer = c.answer
			a := alarm()
			err := h.webhook().Deliver(t.Context(), &a)
			var never *notify.Refused
			var later *notify.Later
			got := passing
			switch {
			case err == nil:
				got = ""
			case errors.As(err, &never):
				got = refused
			case errors.As(err, &later):
				got = later.After.String()
			}
			if got != c.want {
				t.Errorf("%q (%v), want %q", got, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "no way") {
				t.Errorf("%v does not show the answer", err)
			}
		})
	}
}

func TestAWebhookThatHangsIsGivenUpAndItsURLIsNotTold(t *testing.T) {
	h := newHook(t)
	hang := make(chan struct{})
	h.answer = func(http.ResponseWriter, *http.Request) { <-hang }
	w := h.webhook()
	w.Timeout = 50 * time.Millisecond
	a := alarm()
	err := w.Deliver(t.Context(), &a)
	close(hang)
	if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "t0k3n") {
		t.Errorf("%v, want that the time was over, without the URL", err)
	}
}

// script is a target that answers as it is told.
type script struct {
	answers []error
	got     []string
}

func (s *script) Deliver(_ context.Context, a *telemetry.Alarm) error {
	s.got = append(s.got, notify.Key(a))
	if len(s.answers) == 0 {
		return nil
	}
	err := s.answers[0]
	s.answers = s.answers[1:]
	return err
}

func TestARepeatedWriteGoesOnBehindWhatWasDelivered(t *testing.T) {
	s := &script{answers: []error{nil, &notify.Refused{Reason: "never"}, errors.New("down"), nil}}
	outcomes := make(map[notify.Outcome]int)
	o := notify.NewOutbox(s, func(o notify.Outcome) { outcomes[o]++ })
	rows := []telemetry.Alarm{alarm(), alarm(), alarm()}
	for i := range rows {
		rows[i].Revision = uint32(i + 1)
	}
	if err := o.Write(t.Context(), store.Commit{}, rows); err == nil || !strings.Contains(err.Error(), "0123abc.3: down") {
		t.Fatalf("%v, want that the third could not be delivered", err)
	}
	var refused *store.Refused
	if err := o.Write(t.Context(), store.Commit{}, rows); !errors.As(err, &refused) || fmt.Sprint(refused.Rows, refused.Reasons) != "[1] [never]" {
		t.Fatalf("%v, want that the second was refused", err)
	}
	if fmt.Sprint(s.got) != "[0123abc.1 0123abc.2 0123abc.3 0123abc.3]" {
		t.Errorf("delivered %v", s.got)
	}
	if outcomes[notify.Sent] != 2 || outcomes[notify.Rejected] != 1 || outcomes[notify.Failed] != 1 || outcomes[notify.Repeated] != 2 {
		t.Errorf("outcomes %v", outcomes)
	}
}

func TestTheMemoryOfAnOutboxIsBounded(t *testing.T) {
	s := new(script)
	o := notify.NewOutbox(s, nil)
	rows := make([]telemetry.Alarm, 5000)
	for i := range rows {
		rows[i] = alarm()
		rows[i].Revision = uint32(i + 1)
	}
	for range 2 {
		if err := o.Write(t.Context(), store.Commit{}, rows); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.got) <= 5000 {
		t.Errorf("%d deliveries: all 5000 were remembered", len(s.got))
	}
	before := len(s.got)
	if err := o.Write(t.Context(), store.Commit{}, rows[4000:]); err != nil || len(s.got) != before {
		t.Errorf("%d of the newest thousand were delivered again (%v)", len(s.got)-before, err)
	}
}

func TestTheLogHasALine(t *testing.T) {
	var b strings.Builder
	l := notify.Log{Log: slog.New(slog.NewTextHandler(&b, nil))}
	a := alarm()
	if err := l.Deliver(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"level=ERROR", `msg="alarm raised"`, "rule=thermostat-high", "device=thermostat-1", "value=39.5", `summary="Zu warm: 39.5 °C"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is not in %s", want, b.String())
		}
	}
}
