package standalone

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/service"
)

func TestATurnstileWaitsForThoseInside(t *testing.T) {
	var posts turnstile
	entered, leave := make(chan struct{}), make(chan struct{})
	h := posts.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-leave
		w.WriteHeader(http.StatusAccepted)
	}))
	post := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/messages", nil))
		return w
	}
	inside := make(chan int)
	go func() { inside <- post().Code }()
	<-entered

	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := posts.close(over); err == nil {
		t.Error("closed while somebody is inside")
	}
	if w := post(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Errorf("who comes after the end: %d %v, want 503 and when to come again", w.Code, w.Header())
	}
	closed := make(chan error)
	go func() { closed <- posts.close(t.Context()) }()
	close(leave)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if code := <-inside; code != http.StatusAccepted {
		t.Errorf("who was inside: %d, want 202", code)
	}
}

// outside makes a plant without stores, and what it serves on a listener at addr.
func outside(t *testing.T, keys *access.Keys, addr string) http.Handler {
	t.Helper()
	process, err := service.New("millrace", service.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.HTTP.Hosts = []string{"proxy.example.com"}
	return (&plant{cfg: cfg, process: process, keys: keys}).handler(at, &front{})
}

func ask(h http.Handler, path, host, secret string) int {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if r.Host = host; secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestAnOpenListenerIsNotReachedByTheNamesOfOthers(t *testing.T) {
	open, everywhere := outside(t, nil, "127.0.0.1:8080"), outside(t, nil, "0.0.0.0:8080")
	for _, c := range []struct {
		path, host string
		want       int // on loopback
	}{
		{"/metrics", "127.0.0.1:8080", 200},
		{"/metrics", "localhost:8080", 200},
		{"/metrics", "proxy.example.com", 200},
		{"/metrics", "evil.example:8080", 421},
		{"/debug/pprof/cmdline", "evil.example", 421},
		{"/healthz", "anything", 200}, // says nothing but that the process lives
		{"/readyz", "anything", 503},  // no gate is open here
	} {
		if got := ask(open, c.path, c.host, ""); got != c.want {
			t.Errorf("%s as %s: %d, want %d", c.path, c.host, got, c.want)
		}
	}
	if got := ask(everywhere, "/metrics", "millrace.example.com", ""); got != 200 {
		t.Errorf("a listener that --insecure opened to others, under its name there: %d", got)
	}
}

func TestWithKeysMetricsNeedATokenThatMayRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.json")
	secrets := map[string]string{"nobody": "", "a wrong one": "mr_1_2"}
	for who, r := range map[string]access.Request{
		"a device": {Device: "dev1"}, "a sender": {Scopes: []access.Scope{access.ScopeSend}},
		"a reader": {Scopes: []access.Scope{access.ScopeRead}}, "an admin": {Scopes: []access.Scope{access.ScopeAdmin}},
	} {
		secret, _, err := access.Create(name, r, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		secrets[who] = secret
	}
	process, err := service.New("millrace", service.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := access.Open(t.Context(), name, process.Log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := outside(t, keys, "127.0.0.1:8080")
	for who, secret := range secrets {
		want := http.StatusUnauthorized
		if who == "a reader" || who == "an admin" {
			want = http.StatusOK
		}
		for _, path := range []string{"/metrics", "/debug/pprof/cmdline"} {
			if got := ask(h, path, "millrace.example.com", secret); got != want {
				t.Errorf("%s by %s: %d, want %d", path, who, got, want)
			}
		}
		if got := ask(h, "/healthz", "", secret); got != http.StatusOK {
			t.Errorf("/healthz by %s: %d", who, got)
		}
	}
}
