package service_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/service"
)

func TestReadyWhenEveryGateIsOpen(t *testing.T) {
	down := errors.New("dial nats://u:pw@x: refused")
	tests := []struct {
		name        string
		set         func(*service.Health)
		ready, body string
	}{
		{name: "no gates", set: func(*service.Health) {}, ready: "nothing has reported yet", body: "not ready: nothing has reported yet\n"},
		{name: "one open", set: func(h *service.Health) { h.Set("bus", nil) }, body: "ready\n"},
		{name: "closed ones by name, their reasons not for everybody", set: func(h *service.Health) {
			h.Set("store", service.ErrStarting)
			h.Set("api", nil)
			h.Set("bus", down)
		}, ready: "bus: dial nats://u:pw@x: refused\nstore: starting", body: "not ready: bus, store\n"},
		{name: "opened again", set: func(h *service.Health) {
			h.Set("bus", down)
			h.Set("bus", nil)
		}, body: "ready\n"},
		{name: "draining", set: func(h *service.Health) {
			h.Set("bus", nil)
			h.Drain()
		}, ready: "draining", body: "not ready: draining\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h service.Health
			tt.set(&h)
			got := ""
			if err := h.Ready(); err != nil {
				got = err.Error()
			}
			if got != tt.ready {
				t.Errorf("got %q, want %q", got, tt.ready)
			}
			status := http.StatusOK
			if tt.ready != "" {
				status = http.StatusServiceUnavailable
			}
			for path, want := range map[string]int{"/readyz": status, "/healthz": http.StatusOK, "/x": http.StatusNotFound} {
				rec := httptest.NewRecorder()
				h.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
				if rec.Code != want || (path == "/readyz" && rec.Body.String() != tt.body) {
					t.Errorf("%s: got %d %q, want %d %q", path, rec.Code, rec.Body, want, tt.body)
				}
			}
		})
	}
}

func TestTheReasonIsFoundThroughReady(t *testing.T) {
	var h service.Health
	h.Set("bus", service.ErrStarting)
	if !errors.Is(h.Ready(), service.ErrStarting) {
		t.Errorf("got %v", h.Ready())
	}
}

func TestEachChangeOfAGateIsLoggedOnce(t *testing.T) {
	var out strings.Builder
	h := service.Health{Log: slog.New(slog.NewTextHandler(&out, nil))}
	for range 3 {
		h.Set("bus", errors.New("refused"))
	}
	for range 3 {
		h.Set("bus", nil)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "level=WARN") {
		t.Errorf("got %d lines: %s", n, &out)
	}
}
