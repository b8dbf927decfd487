package live

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/millrace/millrace/pkg/feed"
)

const (
	credentialEvery = 500 * time.Millisecond // how often a stream asks whether its token is still in force
	streamBuffer    = 32 << 10
	retryMillis     = 1000 // after which a browser comes back
)

// stream answers GET /v1/live with server-sent events (WHATWG HTML, section 9.2).
func (l *Live) stream(w http.ResponseWriter, r *http.Request) error {
	p := l.query(r)
	filter := feed.Filter{Tenant: p.text("tenant"), Streams: p.many("streams"), Device: p.text("device"), Channel: p.text("channel")}
	after := p.text("after")
	if err := p.done(); err != nil {
		return err
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" { // a browser that comes back to the address that it began with
		after = id
	}
	sub, err := l.deps.Feed.Subscribe(r.Context(), filter, after)
	if err != nil {
		return refusal(r, err)
	}
	defer sub.Close()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would gather it
	w.WriteHeader(http.StatusOK)
	out := &eventWriter{
		b: bufio.NewWriterSize(w, streamBuffer), control: http.NewResponseController(w), now: l.deps.Now, patience: l.cfg.SSE.WriteTimeout,
	}
	_ = out.control.SetReadDeadline(time.Time{}) // the server's own limit is for requests
	if err := l.follow(r.Context(), sub, out); err != nil && r.Context().Err() == nil {
		l.deps.Log.DebugContext(r.Context(), "a live subscriber is gone", "address", r.RemoteAddr, "error", err)
	}
	return nil // an end in between is nothing special: the client comes back
}

// refusal says why there is no subscription.
func refusal(r *http.Request, err error) error {
	switch {
	case errors.Is(err, feed.ErrTooMany):
		return &fault{code: http.StatusServiceUnavailable, text: err.Error() + ": the limit is live.feed.subscribers", retry: 5 * time.Second}
	case errors.Is(err, feed.ErrClosed), r.Context().Err() != nil:
		return &fault{code: http.StatusServiceUnavailable, text: feed.ErrClosed.Error(), retry: time.Second}
	case errors.Is(err, feed.ErrToken):
		return badRequest("Last-Event-ID or after: " + err.Error())
	case errors.Is(err, feed.ErrFilter):
		return badRequest("streams: " + err.Error())
	}
	return fmt.Errorf("subscribe: %w", err)
}

// errRevoked ends a stream whose token is no longer in force.
var errRevoked = errors.New("the token is no longer in force")

// follow sends what the subscription gives until it, the client or the credential ends.
func (l *Live) follow(ctx context.Context, sub *feed.Subscription, out *eventWriter) error {
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if c := credential(ctx); c != nil {
		go l.watch(watched, c.ID, func() { cancel(errRevoked) })
	}
	out.greet(sub.Token())
	if err := out.flush(); err != nil {
		return err
	}
	for {
		events, missed, err := l.next(watched, sub)
		switch {
		case watched.Err() != nil:
			return context.Cause(watched)
		case errors.Is(err, context.DeadlineExceeded):
			out.heartbeat(sub.Token())
		case err != nil:
			return err
		default:
			if missed > 0 {
				out.missed(missed)
			}
			for i := range events {
				out.event(&events[i])
			}
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
}

// next waits for events, for as long as nothing need be sent.
func (l *Live) next(ctx context.Context, sub *feed.Subscription) ([]feed.Event, uint64, error) {
	quiet, cancel := context.WithTimeout(ctx, l.cfg.SSE.Heartbeat)
	defer cancel()
	return sub.Next(quiet)
}

// watch calls end once the credential is no longer in force.
func (l *Live) watch(ctx context.Context, id string, end func()) {
	tick := time.NewTicker(credentialEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := l.deps.Auth.InForce(id); err != nil {
				end()
				return
			}
		}
	}
}

// eventWriter writes server-sent events. A fault of writing shows in flush.
type eventWriter struct {
	b        *bufio.Writer
	control  *http.ResponseController
	now      func() time.Time
	patience time.Duration
	number   []byte
}

// greet begins the stream. An id alone makes no event, but a client that loses its connection before the first event comes back
// with it.
func (o *eventWriter) greet(token string) {
	o.line("retry: ", strconv.Itoa(retryMillis))
	if token != "" {
		o.line("id: ", token)
	}
	o.line("", "")
}

func (o *eventWriter) heartbeat(token string) {
	o.line(":", "")
	if token != "" { // so that a filter that lets little through does not leave the client with an old place
		o.line("id: ", token)
	}
	o.line("", "")
}

func (o *eventWriter) missed(n uint64) {
	o.number = strconv.AppendUint(o.number[:0], n, 10)
	o.line("event: missed\ndata: {\"missed\":", string(o.number)+"}\n")
}

func (o *eventWriter) event(e *feed.Event) {
	o.line("event: ", e.Stream)
	o.line("id: ", e.ID)
	_, _ = o.b.WriteString("data: ")
	_, _ = o.b.Write(e.Data)
	_, _ = o.b.WriteString("\n\n")
}

func (o *eventWriter) line(field, value string) {
	_, _ = o.b.WriteString(field)
	_, _ = o.b.WriteString(value)
	_ = o.b.WriteByte('\n')
}

// flush sends what was written. It fails for a client that has taken nothing for too long.
func (o *eventWriter) flush() error {
	if err := o.control.SetWriteDeadline(o.now().Add(o.patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if err := o.b.Flush(); err != nil {
		return err
	}
	return o.control.Flush()
}
