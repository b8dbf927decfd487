package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	batch         = 40 // messages of each device in a request
	answerTimeout = 15 * time.Second
	answerBytes   = 1 << 20
)

// http sends a batch until it is answered, then the next.
func (g *group) http(ctx context.Context) {
	client := &http.Client{Timeout: answerTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	var body []byte
	for each := g.fleet.Ledger.Plan.Each; g.from < each && ctx.Err() == nil; {
		to := min(g.from+batch, each)
		g.fleet.pace.take(ctx, len(g.devices)*(to-max(g.from, min(g.high, to))))
		var contentType string
		var want counts
		body, contentType, want = g.body(body[:0], g.from, to)
		if want == (counts{}) {
			g.from = to
			continue
		}
		if g.post(ctx, client, body, contentType, want) {
			for _, d := range g.devices {
				g.answered(d, g.from, to)
			}
			g.from = to
			continue
		}
		g.fleet.again.Add(1)
		g.high = to
		g.settle()
		wait(ctx, pause)
	}
}

func (g *group) answered(d, from, to int) {
	l := g.fleet.Ledger
	for n := from; n < to; n++ {
		if l.Due(d, n) {
			l.Answer(d, n, 1)
		}
	}
}

// counts is how many records of a body are taken, and how many become dead letters.
type counts struct{ accepted, rejected int }

// body appends messages from to to-1 of every device: an array where none is broken, else NDJSON, whose broken lines cost only themselves.
func (g *group) body(dst []byte, from, to int) (body []byte, contentType string, want counts) {
	l := g.fleet.Ledger
	array := true
	for n := from; n < to; n++ {
		array = array && l.Plan.Kind(n) != Broken
	}
	end := byte('\n')
	if array {
		dst, end = append(dst, '['), ','
	}
	put := func(d, n int) {
		l.Send(d, n)
		dst = append(l.Plan.Append(dst, d, n), end)
		if l.Plan.Kind(n) == Broken {
			want.rejected++
		} else {
			want.accepted++
		}
	}
	for n := from; n < to; n++ {
		for _, d := range g.devices {
			if !l.Due(d, n) {
				continue
			}
			put(d, n)
			if m, ok := l.Plan.Repeated(n); ok {
				put(d, m)
			}
		}
	}
	if !array {
		return dst, "application/x-ndjson", want
	}
	dst[len(dst)-1] = ']'
	return dst, "application/json", want
}

// post reports whether the body is on disk.
func (g *group) post(ctx context.Context, client *http.Client, body []byte, contentType string, want counts) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.fleet.HTTP()+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		g.fleet.odd("POST: %v", err)
		return false
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
		return false
	case resp.StatusCode != http.StatusAccepted:
		g.fleet.odd("POST: %s: %.200s", resp.Status, text)
		return false
	case err != nil:
		return true // 202 says it all
	}
	var got struct {
		Accepted      int               `json:"accepted"`
		Rejected      []json.RawMessage `json:"rejected"`
		RejectedTotal int               `json:"rejected_total"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		g.fleet.odd("POST: 202 %.200s: %v", text, err)
	} else if has := (counts{got.Accepted, max(len(got.Rejected), got.RejectedTotal)}); has != want {
		g.fleet.odd("POST: 202 counts %+v, want %+v", has, want)
	}
	return true
}

// String names the counts for people.
func (c counts) String() string {
	return fmt.Sprintf("%d accepted and %d rejected", c.accepted, c.rejected)
}
