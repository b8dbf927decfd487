package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	pullFrames = 512                        // of one request; there are at most three under way
	pullBytes  = readBufferBytes/2 + 64<<10 // likewise; more than any frame with its headers
	pullExpiry = 30 * time.Second
	pullSlack  = 128 // places for what the server says beside messages; while nobody reads it says something every heartbeat until expiry
)

var (
	errSilent   = errors.New("the server has been silent for two heartbeats")
	errConsumer = errors.New("the server has ended the consumer")
)

// pull asks a consumer for messages ahead of their use. The library's own iterator has no room for what the server says beside
// messages, so that a slow reader loses some, and does not notice when its first request finds nobody, as happens in a cluster
// right after the consumer was made on another node; both cost seconds.
type pull struct {
	conn      *nats.Conn
	sub       *nats.Subscription
	got       chan *nats.Msg
	subject   string // of requests
	request   []byte
	awaited   int // messages that were asked for and have not come
	heartbeat time.Duration
	silence   *time.Timer
	reached   bool // the consumer has answered
	began     time.Time
	now       func() time.Time
}

func (l *Log) pull(stream, consumer string, heartbeat time.Duration) (*pull, error) {
	request, err := json.Marshal(struct {
		Expires   time.Duration `json:"expires"`
		Batch     int           `json:"batch"`
		MaxBytes  int           `json:"max_bytes"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{pullExpiry, pullFrames, pullBytes, heartbeat})
	if err != nil {
		return nil, err
	}
	q := &pull{
		conn: l.conn, got: make(chan *nats.Msg, 3*pullFrames+pullSlack), subject: "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer,
		request: request, heartbeat: heartbeat, silence: time.NewTimer(2 * heartbeat), began: l.cfg.Now(), now: l.cfg.Now,
	}
	if q.sub, err = l.conn.ChanSubscribe(l.conn.NewInbox(), q.got); err != nil {
		return nil, err
	}
	return q, nil
}

// stop ends the subscription. Its channel is not closed, so whoever waits in next ends by a context.
func (q *pull) stop() {
	q.silence.Stop()
	_ = q.sub.Unsubscribe() // of a connection that is gone, at worst
}

// next returns the next message.
func (q *pull) next(ctx, link context.Context) (*nats.Msg, error) {
	for {
		if q.awaited < pullFrames {
			if err := q.ask(); err != nil {
				return nil, err
			}
		}
		msg, err := q.receive(ctx, link)
		if err != nil {
			return nil, err
		}
		status := ""
		if len(msg.Data) == 0 {
			status = msg.Header.Get("Status")
		}
		if status == "" {
			q.reached = true
			q.awaited--
			return msg, nil
		}
		if err := q.told(ctx, status, msg); err != nil {
			return nil, err
		}
	}
}

func (q *pull) ask() error {
	if err := q.conn.PublishRequest(q.subject, q.sub.Subject, q.request); err != nil {
		return err
	}
	q.awaited += pullFrames
	return nil
}

// receive waits for what the server sends next. The timer is touched only where there is something to wait for.
func (q *pull) receive(ctx, link context.Context) (*nats.Msg, error) {
	select {
	case msg := <-q.got:
		return msg, nil
	default:
	}
	q.silence.Reset(2 * q.heartbeat)
	select {
	case msg := <-q.got:
		return msg, nil
	case <-q.silence.C:
		return nil, errSilent
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-link.Done():
		return nil, context.Cause(link)
	}
}

// told takes note of what the server says of a request (ADR-9 and ADR-37 of nats-architecture-and-design).
func (q *pull) told(ctx context.Context, status string, msg *nats.Msg) error {
	said := msg.Header.Get("Description")
	switch status {
	case "100": // idle heartbeat
		q.reached = true
		return nil
	case "503": // nobody there
		if q.reached || q.now().Sub(q.began) > requestTimeout || !pause(ctx, askAgain) {
			return fmt.Errorf("ask the consumer: %w", nats.ErrNoResponders)
		}
		q.awaited -= pullFrames
		return nil
	case "408": // expired
	case "409":
		ended := strings.ToLower(said)
		if strings.Contains(ended, "deleted") || strings.Contains(ended, "leadership") || strings.Contains(ended, "shutdown") {
			return fmt.Errorf("%w: %s", errConsumer, said)
		}
	default:
		return fmt.Errorf("%w: %s %s", errConsumer, status, said)
	}
	q.reached = true
	left, err := strconv.Atoi(msg.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		return fmt.Errorf("%w: %s %s", errConsumer, status, said)
	}
	q.awaited -= left
	return nil
}
