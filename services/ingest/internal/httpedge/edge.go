package httpedge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest/internal/memory"
	"github.com/millrace/millrace/services/ingest/internal/permit"
	"github.com/millrace/millrace/services/ingest/internal/pipeline"
)

// protocol is the source of messages that came this way.
const protocol = "http"

const (
	rejectedMax    = 1000            // listed in an answer; the others are counted
	idempotencyMax = 256             // bytes of an Idempotency-Key
	retryBusy      = 2 * time.Second // what Retry-After says where the log or the memory is full
	propertyHeader = "X-Property-"
)

// Config sizes an Edge. All of it must be set.
type Config struct {
	BodyBytesMax  int64         // of a body, compressed and not
	BodyTimeout   time.Duration // for a body to come; beyond it 408
	AnswerTimeout time.Duration // for the log; beyond it 503
}

// Keys is what the edge needs of access.Keys; nil is an open listener.
type Keys interface {
	Authenticate(secret string) (*access.Credential, error)
}

// Deps are what an Edge works with.
type Deps struct {
	Pipeline *pipeline.Pipeline
	Counters *pipeline.Counters // of this protocol
	Permit   *permit.Rules
	Memory   *memory.Budget // for bodies being read or waiting for the log; beyond it 503
	Keys     Keys
	Metrics  prometheus.Registerer
	Log      *slog.Logger
	Now      func() time.Time
}

// Edge is the handler. Safe for concurrent use.
type Edge struct {
	cfg     Config
	deps    Deps
	buffers pools
	answers *prometheus.CounterVec
	busy    *prometheus.CounterVec // reason
	handler http.Handler
}

// New returns an Edge.
func New(cfg Config, d Deps) (*Edge, error) {
	e := &Edge{
		cfg: cfg, deps: d,
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_ingest_http_answers_total", Help: "Answers to requests that carry messages, by status.",
		}, []string{"status"}),
		busy: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_ingest_http_unavailable_total",
			Help: "Answers 503, by reason: too many bodies in hand, of all or of their sender; the log is full, late or not there.",
		}, []string{"reason"}),
	}
	for _, c := range []prometheus.Collector{e.answers, e.busy} {
		if err := d.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the HTTP edge: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/messages", e.post)
	mux.HandleFunc("POST /v1/devices/{deviceId}/messages", e.post)
	// A page of another site could make a browser post here, to an open listener on loopback above all.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		e.fail(w, &failure{status: http.StatusForbidden, text: "cross-origin requests of browsers are not taken"})
	}))
	e.handler = guard.Handler(mux)
	return e, nil
}

// ServeHTTP implements http.Handler for the two paths; any other is 404.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.handler.ServeHTTP(w, r) }

// Why an answer is 503.
const (
	unavailableBodies = "bodies"   // of all are more than there is memory for
	unavailableShare  = "share"    // the sender's are more than its share of it
	unavailableFull   = "log_full" // the log has no room
	unavailableLate   = "log_late" // the log has not confirmed in time
	unavailableLog    = "log"      // the log failed
	unavailableGone   = "gone"     // the sender did not wait
)

// unavailable is an answer 503, counted.
func (e *Edge) unavailable(why, text string) *failure {
	e.busy.WithLabelValues(why).Inc()
	return &failure{http.StatusServiceUnavailable, text, retryBusy}
}

// failure is an answer that is no 202.
type failure struct {
	status int
	text   string
	retry  time.Duration
}

func (f *failure) Error() string { return f.text }

func fault(status int, format string, args ...any) *failure {
	return &failure{status: status, text: fmt.Sprintf(format, args...)}
}

func (e *Edge) post(w http.ResponseWriter, r *http.Request) {
	answer, err := e.take(w, r)
	if err != nil {
		e.fail(w, err)
		return
	}
	e.send(w, answer)
}

// take brings a request's messages to the log.
func (e *Edge) take(w http.ResponseWriter, r *http.Request) (*answer, *failure) {
	at := e.deps.Now()
	// The server that this is mounted on may set no deadline, for the sake of answers without an end. A writer that takes none is a test's.
	_ = http.NewResponseController(w).SetReadDeadline(at.Add(e.cfg.BodyTimeout))
	sender, fail := e.sender(r)
	if fail != nil {
		return nil, fail
	}
	in, fail := e.input(r, sender)
	if fail != nil {
		return nil, fail
	}
	if in.DeviceID != "" { // spares the reading of what would be refused
		if wait, over := e.deps.Pipeline.Over(in.DeviceID, telemetry.At(at)); over != pipeline.QuotaNone {
			e.deps.Counters.RefuseUnread(over)
			return nil, overQuota(wait)
		}
	}
	buffer := e.buffers.get(r.ContentLength)
	body := &body{edge: e, who: sharer(r, sender, in), bytes: (*buffer)[:0]}
	defer body.release(buffer)
	if fail := body.read(w, r); fail != nil {
		return nil, fail
	}
	in.Body, in.IngestTime = body.bytes, telemetry.At(at)
	out, fail := e.store(r.Context(), in, e.deps.Pipeline.Flow(body.who))
	if fail != nil {
		return nil, fail
	}
	e.deps.Counters.Latency.Observe(e.deps.Now().Sub(at).Seconds())
	return answerOf(&out), nil
}

// store brings what the body holds to the log, and waits until it is there.
func (e *Edge) store(ctx context.Context, in *telemetry.Input, flow uint64) (pipeline.Outcome, *failure) {
	b := e.deps.Pipeline.Batch(e.deps.Counters)
	defer b.Release()
	ctx, cancel := context.WithTimeout(ctx, e.cfg.AnswerTimeout)
	defer cancel()
	out := b.Take(in, false)
	if out.Over {
		b.Submit(ctx, flow, nil) // it is empty: nothing was gathered
		return out, overQuota(out.Wait)
	}
	t := &ticket{count: e.deps.Counters, left: out.Gathered(), done: make(chan struct{})}
	if t.left == 0 {
		close(t.done)
	}
	b.Submit(ctx, flow, func(int) bus.Ticket { return t })
	return out, e.wait(ctx, t)
}

func overQuota(wait time.Duration) *failure {
	return &failure{http.StatusTooManyRequests, "too many messages of this device", wait}
}

// sharer is whose share of the edge a request takes: the device whose key it has, else the token and the device that it sends for;
// where nobody is asked for a key and the path names no device, the address that it comes from.
func sharer(r *http.Request, s *permit.Sender, in *telemetry.Input) string {
	switch {
	case s.Device() != "":
		return "key/" + s.Device()
	case in.DeviceID != "" || s.Credential() != "":
		return s.Credential() + "/device/" + in.DeviceID
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address/" + host
}

// sender authenticates a request.
func (e *Edge) sender(r *http.Request) (*permit.Sender, *failure) {
	if e.deps.Keys == nil {
		return e.deps.Permit.Sender(nil), nil
	}
	scheme, secret, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil, fault(http.StatusUnauthorized, "Authorization: want Bearer and a device's key or a token")
	}
	cred, err := e.deps.Keys.Authenticate(strings.TrimSpace(secret))
	if err != nil {
		return nil, fault(http.StatusUnauthorized, "Authorization: %v", err)
	}
	s := e.deps.Permit.Sender(cred)
	if !s.MaySend() {
		return nil, fault(http.StatusForbidden, "this token may not send messages: it lacks the scope send")
	}
	return s, nil
}

// input returns what the request says beside its body.
func (e *Edge) input(r *http.Request, s *permit.Sender) (*telemetry.Input, *failure) {
	device := r.PathValue("deviceId")
	if device != "" {
		if err := telemetry.ValidDeviceID(device); err != nil {
			return nil, fault(http.StatusBadRequest, "device id of the path: %v", err)
		}
		if !s.MaySendFor(device) {
			return nil, fault(http.StatusForbidden, "this credential may not send for device %s", device)
		}
	}
	in := &telemetry.Input{
		DeviceID: device, Source: protocol, Credential: s.Credential(),
		IdempotencyKey: r.Header.Get("Idempotency-Key"),
		MayActFor:      func(d string) bool { return s.MayActFor(device, d) },
	}
	if len(in.IdempotencyKey) > idempotencyMax {
		return nil, fault(http.StatusBadRequest, "Idempotency-Key: %d bytes, want at most %d", len(in.IdempotencyKey), idempotencyMax)
	}
	var fail *failure
	if in.ContentType, fail = contentType(r.Header.Get("Content-Type")); fail != nil {
		return nil, fail
	}
	for name, values := range r.Header {
		key, ok := strings.CutPrefix(name, propertyHeader)
		if !ok || key == "" {
			continue
		}
		for _, v := range values {
			if len(in.Properties) == telemetry.PropertiesMax {
				return nil, fault(http.StatusBadRequest, "more than %d properties", telemetry.PropertiesMax)
			}
			// A header's name comes in any case, so a condition such as properties.site could not rely on it.
			in.Properties = append(in.Properties, telemetry.Property{Key: strings.ToLower(key), Value: v})
		}
	}
	sortProperties(in.Properties)
	return in, nil
}

// contentType returns the media type for the decoder. What curl sends by default is taken for JSON.
func contentType(header string) (string, *failure) {
	if header == "" {
		return "", nil
	}
	media, params, err := mime.ParseMediaType(header)
	if err != nil {
		return "", fault(http.StatusUnsupportedMediaType, "Content-Type: %v", err)
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return "", fault(http.StatusUnsupportedMediaType, "Content-Type: charset %q, want utf-8", charset)
	}
	switch media {
	case "application/json", "application/x-ndjson", "application/ndjson", "application/jsonl", "application/senml+json":
		return media, nil
	case "text/plain", "application/octet-stream", "application/x-www-form-urlencoded":
		return "", nil
	}
	if strings.HasSuffix(media, "+json") {
		return "application/json", nil
	}
	return "", fault(http.StatusUnsupportedMediaType,
		"Content-Type: %q, want application/json, application/x-ndjson or application/senml+json", media)
}

// ticket waits for the records of one request. Its lanes report at the same time.
type ticket struct {
	count *pipeline.Counters
	mu    sync.Mutex
	left  int
	err   error
	done  chan struct{}
}

// Done implements bus.Ticket.
func (t *ticket) Done(n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.count.Fail(n)
		t.err = err
	}
	if t.left -= n; t.left == 0 {
		close(t.done)
	}
}

// wait returns when all records are on disk, or what to answer else. Where it gives up, some of them may be: the sender
// sends the same again, and the router drops the double.
func (e *Edge) wait(ctx context.Context, t *ticket) *failure {
	select {
	case <-t.done:
	case <-ctx.Done():
		return e.late(ctx)
	}
	switch {
	case t.err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(t.err, ctx.Err()): // there was no room in time
		return e.late(ctx)
	case errors.Is(t.err, bus.ErrFull):
		return e.unavailable(unavailableFull, "the log is full")
	case errors.Is(t.err, bus.ErrTooLarge):
		return fault(http.StatusRequestEntityTooLarge, "a message is larger than the log takes")
	default:
		e.deps.Log.Error("messages could not be appended", "error", t.err)
		return e.unavailable(unavailableLog, "the log is not available")
	}
}

// late says why a request waits no longer.
func (e *Edge) late(ctx context.Context) *failure {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return e.unavailable(unavailableLate, "the log has not confirmed in time; send the same again")
	}
	return e.unavailable(unavailableGone, "the request was given up; send the same again")
}

// seconds is d as Retry-After has it: whole, rounded up, at least 1.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(int64((d+time.Second-1)/time.Second), 1), 10)
}
