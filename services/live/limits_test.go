package live_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/live"
)

// dial opens a connection to the fixture whose reads and writes end with the test's patience.
func (f *fixture) dial(t *testing.T) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// late is a clock by which a limit of so long is nearly over when it begins.
func late(limit time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(300*time.Millisecond - limit) }
}

func TestABodyThatNeverComesHoldsNoConnection(t *testing.T) {
	f := start(t, func(_ *live.Config, d *live.Deps) { d.Now = late(30 * time.Second) })
	for _, head := range []string{
		"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nSEL",
		"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nSEL",
		"POST /v1/alarms/a1/ack HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
		"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
	} {
		conn := f.dial(t)
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: the connection is still open", head)
		}
	}
}

func TestWhoDoesNotReadAnAnswerIsCutOff(t *testing.T) {
	f := start(t, func(_ *live.Config, d *live.Deps) { d.Now = late(2 * time.Minute) })
	conn := f.dial(t)
	w := bufio.NewWriter(conn)
	for {
		if _, err := io.WriteString(w, "GET /v1/openapi.yaml HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
			return
		}
	}
}

func TestAnAnswerMayTakeLongerThanTheBody(t *testing.T) {
	f := start(t, func(_ *live.Config, d *live.Deps) { d.Now = late(30 * time.Second) })
	// It runs for longer than the 300 ms that the body may take.
	const query = "SELECT sum(a.range * b.range % 7) FROM range(30000) a, range(2000) b"
	if code, _, body := f.ask(t, "POST", "/v1/sql", query); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
}

func TestATokenWithoutANameIsNamedByItsID(t *testing.T) {
	keys := &revocable{c: &access.Credential{ID: "3f2a9c", Scopes: []access.Scope{access.ScopeAdmin}}}
	f := start(t, func(c *live.Config, d *live.Deps) { d.Auth, c.Query.AckWait = keys, 0 })
	f.fill(t)
	for body, want := range map[string]string{"": `{"by":"3f2a9c"}`, `{"by":"ann"}`: `{"by":"ann (3f2a9c)"}`} {
		if code, _, answer := f.ask(t, "POST", "/v1/alarms/a1/ack", body, "Authorization", "Bearer secret"); code != http.StatusAccepted {
			t.Fatalf("%d %s", code, answer)
		}
		if got := f.lastCommand(t); got != want {
			t.Errorf("the command says %s, want %s", got, want)
		}
	}
}

// lastCommand returns what the newest command on the log says.
func (f *fixture) lastCommand(t *testing.T) string {
	t.Helper()
	said := ""
	for n := range 2 {
		p, err := f.log.Partition(t.Context(), bus.PartitionID{Topic: bus.AlarmCommands, Number: n})
		must(t, err)
		end, err := p.End(t.Context())
		must(t, err)
		if end == (bus.Position{}) {
			continue
		}
		for batch, err := range p.After(t.Context(), bus.Start{}) {
			must(t, err)
			var a telemetry.Alarm
			must(t, telemetry.ParseAlarm(batch.Records[len(batch.Records)-1].Value, &a))
			said = string(a.Detail)
			if batch.Last().Compare(end) >= 0 {
				break
			}
		}
	}
	return said
}

// TestEveryRouteAsksForItsScope holds each route against what a token may do, so that a new one cannot be left open.
func TestEveryRouteAsksForItsScope(t *testing.T) {
	keys := &revocable{c: &access.Credential{ID: "id"}}
	f := start(t, func(c *live.Config, d *live.Deps) { d.Auth, c.Query.AckWait = keys, 0 })
	open := []string{"GET /v1/openapi.yaml", "GET /v1/asyncapi.yaml"}
	needs := map[string]access.Scope{"POST /v1/alarms/{id}/ack": access.ScopeAdmin, "POST /v1/dead-letters/{id}/replay": access.ScopeAdmin}
	for _, route := range live.Routes() {
		method, path, _ := strings.Cut(route, " ")
		path = strings.ReplaceAll(path, "{id}", "x")
		for _, has := range []access.Scope{"", access.ScopeSend, access.ScopeRead, access.ScopeAdmin} {
			keys.mu.Lock()
			keys.c = &access.Credential{ID: "id", Scopes: []access.Scope{has}}
			keys.mu.Unlock()
			need := needs[route]
			if need == "" {
				need = access.ScopeRead
			}
			want := has == need || has == access.ScopeAdmin || slices.Contains(open, route)
			if got := f.admitted(t, method, path); got != want {
				t.Errorf("%s with the scope %q: admitted %t, want %t", route, has, got, want)
			}
		}
	}
}

// admitted asks and reports whether the answer is anything but 403. A stream is not followed.
func (f *fixture) admitted(t *testing.T, method, path string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.url+path, nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer secret")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	must(t, resp.Body.Close())
	return resp.StatusCode != http.StatusForbidden
}

// gone is a store whose server cannot be reached.
type gone struct{}

func (gone) Select(context.Context, store.Selection, func([]any) error) error {
	return fmt.Errorf("select: %w", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
}

func TestAStoreThatIsDownIsSaidToBeWorthAskingAgain(t *testing.T) {
	f := start(t, func(_ *live.Config, d *live.Deps) { d.Tables = func(string) store.Reader { return gone{} } })
	resp, err := http.Get(f.url + "/v1/logs")
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q; want 503 and when to ask again", resp.Status, resp.Header.Get("Retry-After"))
	}
}
