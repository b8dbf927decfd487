package loadtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Latency subscribes to the state stream of an instance and tells how long messages take to get there: from the timestamp
// in the message, taken just before its publish, to the moment the event is read. Sender and reader share a clock.
type Latency struct {
	HTTP  string
	Token string
	Now   func() time.Time

	mu    sync.Mutex
	took  []time.Duration
	ready chan struct{}
}

// Follow reads events until ctx ends. Started returns once the subscription stands.
func (l *Latency) Follow(ctx context.Context) error {
	query := url.Values{"streams": {"state"}, "channel": {"reading"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.HTTP+"/v1/live?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	if l.Token != "" {
		req.Header.Set("Authorization", "Bearer "+l.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("subscribe: %s", resp.Status)
	}
	close(l.started())
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:")); ok {
			l.take(data)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return lines.Err()
}

func (l *Latency) take(data []byte) {
	var event struct {
		EventTime time.Time `json:"event_time"`
	}
	if json.Unmarshal(data, &event) != nil || event.EventTime.IsZero() {
		return
	}
	took := l.Now().Sub(event.EventTime)
	l.mu.Lock()
	l.took = append(l.took, took)
	l.mu.Unlock()
}

func (l *Latency) started() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ready == nil {
		l.ready = make(chan struct{})
	}
	return l.ready
}

// Started is closed once the subscription stands.
func (l *Latency) Started() <-chan struct{} { return l.started() }

// Quantiles returns how many events were seen, and the q-th quantiles of their latency.
func (l *Latency) Quantiles(q ...float64) (events int, took []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.took)
	for _, q := range q {
		if len(l.took) == 0 {
			took = append(took, 0)
			continue
		}
		took = append(took, l.took[int(q*float64(len(l.took)-1))])
	}
	return len(l.took), took
}
