package live

import (
	"context"
	"time"

	"github.com/millrace/millrace/pkg/feed"
)

// publish sends every event onto its NATS subject until ctx ends. NATS subjects keep nothing: who is not there misses it, and
// so does everybody while the connection is down.
func (l *Live) publish(ctx context.Context) {
	const pause = time.Second
	last, said := "", ""
	for ctx.Err() == nil {
		sub, err := l.deps.Feed.Subscribe(ctx, feed.Filter{}, last)
		if err == nil {
			last, err = l.publishFrom(ctx, sub, last)
			sub.Close()
		}
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			l.deps.Log.WarnContext(ctx, "publishing onto NATS begins again", "error", err)
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
}

// publishFrom sends until the subscription ends and returns the last token.
func (l *Live) publishFrom(ctx context.Context, sub *feed.Subscription, last string) (string, error) {
	var subject []byte
	failing := false
	for {
		events, missed, err := sub.Next(ctx)
		if err != nil {
			return last, err
		}
		if missed > 0 {
			l.metrics.failed.Add(float64(missed))
		}
		for i := range events {
			e := &events[i]
			last = e.ID
			subject = appendSubject(subject[:0], e)
			if err := l.deps.Publish(string(subject), e.Data); err != nil {
				l.metrics.failed.Inc()
				if !failing {
					l.deps.Log.WarnContext(ctx, "NATS does not take events; they are counted in millrace_live_nats_failed_total", "error", err)
				}
				failing = true
				continue
			}
			failing = false
			l.metrics.published.Inc()
		}
	}
}

// appendSubject appends live.<stream>.<device>.<channel>. What NATS gives a meaning (. * > and white space), control characters and
// the percent sign become %XX, as in a URL; of what has no channel the last token is "-", which as a name becomes %2D.
func appendSubject(dst []byte, e *feed.Event) []byte {
	dst = append(append(dst, "live."...), e.Stream...)
	dst = appendToken(append(dst, '.'), e.Device)
	return appendToken(append(dst, '.'), e.Channel)
}

func appendToken(dst []byte, name string) []byte {
	const hex = "0123456789ABCDEF"
	switch name {
	case "":
		return append(dst, '-')
	case "-":
		return append(dst, "%2D"...)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c <= ' ', c == 0x7f, c == '.', c == '*', c == '>', c == '%':
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
