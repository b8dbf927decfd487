package service

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

var (
	// ErrStarting is what a gate is set to by whoever will open it later.
	ErrStarting = errors.New("starting")
	// ErrDraining is the reason of every process that has been told to stop.
	ErrDraining = errors.New("draining")

	errNoGates = errors.New("nothing has reported yet")
)

// Health tells whether a process lives, and whether it is ready for work. Readiness is a set of named gates; all must
// be open. The zero value is not ready, since no gate has been set. Safe for concurrent use.
type Health struct {
	// Log, when there is one, gets a line whenever a gate opens or closes, with the reason. Set it before use.
	Log *slog.Logger

	mu       sync.RWMutex
	gates    map[string]error
	draining bool
}

// Set opens the gate of this name (nil) or closes it, with the reason. The first call makes the gate.
func (h *Health) Set(name string, reason error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, known := h.gates[name]
	if h.gates == nil {
		h.gates = make(map[string]error)
	}
	h.gates[name] = reason
	if h.Log == nil || (known && textOf(before) == textOf(reason)) {
		return
	}
	if reason == nil {
		h.Log.Info("gate is open", "gate", name)
		return
	}
	report := h.Log.Warn
	if errors.Is(reason, ErrStarting) {
		report = h.Log.Info
	}
	report("gate is closed", "gate", name, "reason", reason)
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return cmp.Or(err.Error(), "closed")
}

// Drain makes the process unready for good, so that nothing new is sent to it.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
}

// Ready returns nil when every gate is open, else an error that lists the closed ones by name, each with its reason.
func (h *Health) Ready() error {
	closed, err := h.closed()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(closed)) {
		errs = append(errs, fmt.Errorf("%s: %w", name, closed[name]))
	}
	return errors.Join(errs...)
}

// closed returns the closed gates, or an error when it is not about gates.
func (h *Health) closed() (map[string]error, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case h.draining:
		return nil, ErrDraining
	case len(h.gates) == 0:
		return nil, errNoGates
	}
	closed := maps.Clone(h.gates)
	maps.DeleteFunc(closed, func(_ string, reason error) bool { return reason == nil })
	return closed, nil
}

// Handler serves GET /healthz, 200 as long as the process answers at all, and GET /readyz, 200 or 503 with the names of
// the closed gates. It may be mounted on a listener that anyone reaches: the reasons, which may name hosts and files,
// are in the log and not in the answer.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		closed, err := h.closed()
		switch {
		case err != nil:
			answer(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
		case len(closed) > 0:
			names := slices.Sorted(maps.Keys(closed))
			answer(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(names, ", "))
		default:
			answer(w, http.StatusOK, "ready")
		}
	})
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the client may be gone
}
