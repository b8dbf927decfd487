package loadtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

// Load says what to send. Messages are divided over Connections, and each connection's over its devices in turn.
type Load struct {
	MQTT        string  // host:port; empty: HTTP is used
	HTTP        string  // base URL
	Token       string  // for HTTP, where one is asked for
	Devices     int     // at least Connections
	Messages    int     // in all
	Connections int     // MQTT connections, or HTTP requests under way
	Inflight    int     // unacknowledged messages of one MQTT connection
	Batch       int     // messages in one HTTP request, as NDJSON
	Rate        float64 // messages a second in all; 0: as fast as they are taken
	Now         func() time.Time
}

// Sent is what became of a Load.
type Sent struct {
	Acknowledged int64
	Refused      int64
	Took         time.Duration // from the first message to the last acknowledgement
}

// Run sends the load and waits for every acknowledgement.
func (l Load) Run(ctx context.Context) (Sent, error) {
	var acknowledged, refused atomic.Int64
	begin := l.Now()
	errs := make([]error, l.Connections)
	var all sync.WaitGroup
	for i := range l.Connections {
		all.Go(func() {
			s := stream{load: l, number: i, acknowledged: &acknowledged, refused: &refused, begin: begin}
			if l.MQTT != "" {
				errs[i] = s.mqtt(ctx)
			} else {
				errs[i] = s.http(ctx)
			}
		})
	}
	all.Wait()
	return Sent{acknowledged.Load(), refused.Load(), l.Now().Sub(begin)}, errors.Join(errs...)
}

// stream is what goes over one connection.
type stream struct {
	load                  Load
	number                int
	acknowledged, refused *atomic.Int64
	begin                 time.Time
	buf                   []byte
}

// share returns how many messages are this connection's.
func (s *stream) share() int {
	n := s.load.Messages / s.load.Connections
	if s.number < s.load.Messages%s.load.Connections {
		n++
	}
	return n
}

// message returns the i-th message of this connection; it is valid until the next call.
func (s *stream) message(i int) (device int, body []byte) {
	own := max(1, s.load.Devices/s.load.Connections)
	device = s.number*own + i%own
	s.buf = Message(s.buf[:0], device, i/own, s.load.Now())
	return device, s.buf
}

// pace waits until the i-th message of this connection is due.
func (s *stream) pace(ctx context.Context, i int) {
	if s.load.Rate <= 0 {
		return
	}
	due := s.begin.Add(time.Duration(float64(i*s.load.Connections+s.number) / s.load.Rate * float64(time.Second)))
	if wait := due.Sub(s.load.Now()); wait > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (s *stream) mqtt(ctx context.Context) error {
	c, err := mqtt.Dial(ctx, mqtt.ClientOptions{
		Addr: s.load.MQTT, ClientID: fmt.Sprintf("millrace-load-%d", s.number), CleanStart: true, MaxInflight: s.load.Inflight,
	})
	if err != nil {
		return err
	}
	done := func(err error) {
		if err != nil {
			s.refused.Add(1)
			return
		}
		s.acknowledged.Add(1)
	}
	var topic []byte
	for i := range s.share() {
		s.pace(ctx, i)
		device, body := s.message(i)
		topic = append(AppendDevice(append(topic[:0], "devices/"...), device), "/messages/events/"...)
		if err := c.PublishAsync(string(topic), body, 1, nil, done); err != nil {
			return fmt.Errorf("message %d of connection %d: %w", i, s.number, err)
		}
	}
	if err := c.Drain(ctx); err != nil {
		return fmt.Errorf("wait for the acknowledgements of connection %d: %w", s.number, err)
	}
	return c.Disconnect(ctx)
}

func (s *stream) http(ctx context.Context) error {
	var body bytes.Buffer
	for i := 0; i < s.share(); {
		body.Reset()
		first := i
		for ; i < s.share() && i-first < s.load.Batch; i++ {
			s.pace(ctx, i)
			_, line := s.message(i)
			body.Write(line)
			body.WriteByte('\n')
		}
		if err := s.post(ctx, body.Bytes(), i-first); err != nil {
			return fmt.Errorf("messages %d to %d of connection %d: %w", first, i, s.number, err)
		}
	}
	return nil
}

func (s *stream) post(ctx context.Context, body []byte, messages int) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.load.HTTP+"/v1/messages", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		if s.load.Token != "" {
			req.Header.Set("Authorization", "Bearer "+s.load.Token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		switch {
		case err != nil:
			return err
		case resp.StatusCode == http.StatusAccepted:
			s.acknowledged.Add(int64(messages))
			return nil
		case resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusTooManyRequests:
			return fmt.Errorf("%s: %s", resp.Status, answer)
		}
		s.refused.Add(int64(messages))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
