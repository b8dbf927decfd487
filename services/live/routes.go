package live

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/answer"
)

// route is one path of the interface.
type route struct {
	method, path string
	scope        access.Scope // that a token must have; "" asks for none
	answer       func(w http.ResponseWriter, r *http.Request) error
	endless      bool // a stream, whose time says nothing
}

// routes is everything that is served, besides the page. schemas/openapi.yaml has the same.
func (l *Live) routes() []route {
	return []route{
		{method: "GET", path: "/v1/live", scope: access.ScopeRead, answer: l.stream, endless: true},
		{method: "GET", path: "/v1/devices", scope: access.ScopeRead, answer: l.devices},
		{method: "GET", path: "/v1/devices/{id}/state", scope: access.ScopeRead, answer: l.deviceState},
		{method: "GET", path: "/v1/devices/{id}/messages", scope: access.ScopeRead, answer: l.messages},
		{method: "GET", path: "/v1/state", scope: access.ScopeRead, answer: l.state},
		{method: "GET", path: "/v1/aggregates", scope: access.ScopeRead, answer: l.aggregates},
		{method: "GET", path: "/v1/alarms", scope: access.ScopeRead, answer: l.alarms},
		{method: "POST", path: "/v1/alarms/{id}/ack", scope: access.ScopeAdmin, answer: l.acknowledge},
		{method: "GET", path: "/v1/logs", scope: access.ScopeRead, answer: l.logs},
		{method: "GET", path: "/v1/dead-letters", scope: access.ScopeRead, answer: l.deadLetters},
		{method: "GET", path: "/v1/dead-letters/{id}", scope: access.ScopeRead, answer: l.deadLetter},
		{method: "POST", path: "/v1/dead-letters/{id}/replay", scope: access.ScopeAdmin, answer: l.replayLetter},
		{method: "POST", path: "/v1/sql", scope: access.ScopeRead, answer: l.sql},
		{method: "GET", path: "/v1/audit", scope: access.ScopeRead, answer: l.audit},
		{method: "GET", path: "/v1/status", scope: access.ScopeRead, answer: l.status},
		{method: "GET", path: "/v1/openapi.yaml", answer: contract("openapi.yaml")},
		{method: "GET", path: "/v1/asyncapi.yaml", answer: contract("asyncapi.yaml")},
	}
}

func (l *Live) newHandler() (http.Handler, error) {
	mux := http.NewServeMux()
	for _, rt := range l.routes() {
		mux.Handle(rt.method+" "+rt.path, l.wrap(rt))
	}
	if l.cfg.Page {
		if err := mountPage(mux); err != nil {
			return nil, err
		}
	}
	// A page of somebody else's that a browser on this machine shows must not acknowledge alarms.
	return http.NewCrossOriginProtection().Handler(mux), nil
}

// wrap makes a handler of a route: who may, how long, what it answered.
func (l *Live) wrap(rt route) http.Handler {
	name := rt.method + " " + rt.path
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := l.deps.Now()
		seen := &recorder{ResponseWriter: w, now: l.deps.Now}
		if r.ContentLength != 0 { // who serves the handler need not have set a limit
			_ = http.NewResponseController(w).SetReadDeadline(began.Add(bodyTimeout)) // not every connection has deadlines
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Add("Vary", "Accept-Encoding, Authorization")
		r, err := l.admit(r, rt.scope)
		if err == nil {
			err = rt.answer(seen, r)
		}
		half := err != nil && seen.begun
		if err != nil {
			l.complain(seen, r, err)
		}
		l.metrics.requests.WithLabelValues(name, strconv.Itoa(seen.status())).Inc()
		if !rt.endless {
			l.metrics.seconds.WithLabelValues(name).Observe(l.deps.Now().Sub(began).Seconds())
		}
		if half && r.Context().Err() == nil {
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
	})
}

// answerTimeout is how long an answer in one piece may take on its way, 16 MiB at most. Streams set deadlines of their own.
const answerTimeout = 2 * time.Minute

// recorder remembers how an answer began, and gives it its time.
type recorder struct {
	http.ResponseWriter
	now   func() time.Time
	code  int
	begun bool
}

// Unwrap gives http.ResponseController what it wraps.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	if !r.begun {
		r.code, r.begun = code, true
		_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(r.now().Add(answerTimeout)) // likewise
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if !r.begun {
		r.WriteHeader(http.StatusOK)
	}
	return r.ResponseWriter.Write(b)
}

func (r *recorder) status() int {
	if !r.begun {
		return http.StatusOK
	}
	return r.code
}

// fault is an error with the code of its answer. Its text is for whoever asked.
type fault struct {
	code  int
	text  string
	retry time.Duration // when it is worth asking again; 0 says nothing
}

func (f *fault) Error() string { return f.text }

func badRequest(text string) error { return &fault{code: http.StatusBadRequest, text: text} }

// complain answers an error.
func (l *Live) complain(w *recorder, r *http.Request, err error) {
	if w.begun {
		if r.Context().Err() == nil {
			l.deps.Log.WarnContext(r.Context(), "an answer was cut short", "path", r.URL.Path, "error", err)
		}
		return
	}
	var f *fault
	if !errors.As(err, &f) {
		f = l.judge(r, err)
	}
	if f.code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="millrace"`)
	}
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(f.retry.Seconds()))))
	}
	answerJSON(w, r, f.code, append(appendText([]byte(`{"error":`), f.text), '}'))
}

// judge finds the code for an error of the store.
func (l *Live) judge(r *http.Request, err error) *fault {
	switch {
	case errors.Is(err, answer.ErrInvalid), errors.Is(err, answer.ErrNotAllowed):
		return &fault{code: http.StatusBadRequest, text: err.Error()}
	case errors.Is(err, answer.ErrNotAcceptable):
		return &fault{code: http.StatusNotAcceptable, text: err.Error()}
	case errors.Is(err, answer.ErrTimeout), errors.Is(err, answer.ErrResources):
		return &fault{code: http.StatusUnprocessableEntity, text: err.Error()}
	case errors.Is(err, answer.ErrBusy):
		return &fault{code: http.StatusServiceUnavailable, text: err.Error(), retry: time.Second}
	case r.Context().Err() != nil: // nobody reads the answer
		return &fault{code: http.StatusServiceUnavailable, text: "the request was given up"}
	}
	if unreachable(err) {
		l.deps.Log.WarnContext(r.Context(), "a store does not answer", "method", r.Method, "path", r.URL.Path, "error", err)
		return &fault{code: http.StatusServiceUnavailable, text: "the store that keeps this does not answer", retry: unreachableRetry}
	}
	l.deps.Log.ErrorContext(r.Context(), "a request could not be answered", "method", r.Method, "path", r.URL.Path, "error", err)
	return &fault{code: http.StatusInternalServerError, text: "the request could not be answered; the log of the server says why"}
}

const unreachableRetry = 5 * time.Second

// unreachable reports whether an engine's server could not be spoken to: it is down, or starts.
func unreachable(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// table returns who keeps a table, or what to answer where no store of this process does.
func (l *Live) table(name string) (store.Reader, error) { //nolint:ireturn // each table may be another engine's
	if l.deps.Tables != nil {
		if r := l.deps.Tables(name); r != nil {
			return r, nil
		}
	}
	return nil, &fault{code: http.StatusNotImplemented, text: "no store that this process can ask keeps " + name + ": where it is embedded, ask the " +
		"`millrace run` that has it, on its own HTTP address; else name the store under stores"}
}

// bearer returns the secret of the header Authorization.
func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}
