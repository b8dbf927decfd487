package e2e

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
)

// stream is one subscription to server-sent events.
type stream struct {
	lines *bufio.Scanner
	close context.CancelFunc
}

type sse struct{ name, id, data string }

// subscribe opens the state stream, after the event with the given id where it is not empty.
func subscribe(t *testing.T, in *instance, after string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, in.http+"/v1/live?streams=state", nil)
	if err != nil {
		t.Fatal(err)
	}
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("subscribe: %s", resp.Status)
	}
	return &stream{lines: bufio.NewScanner(resp.Body), close: cancel}
}

// next waits for an event.
func (s *stream) next(t *testing.T) sse {
	t.Helper()
	var e sse
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		case "":
			if e.data != "" {
				return e
			}
			e = sse{}
		}
	}
	t.Fatalf("the stream ended: %v", s.lines.Err())
	return e
}
