package live

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/feed"
)

// publish sends every event onto its NATS subject until ctx ends, as long as somebody listens there. NATS subjects keep
// nothing: who is not there misses it, and so does everybody while the connection is down. Whoever begins to listen gets all
// from then on, and what happened up to a second before.
func (l *Live) publish(ctx context.Context) {
	select {
	case <-l.deps.Feed.Ready():
	case <-ctx.Done():
	}
	last, said := "", ""
	for ctx.Err() == nil {
		// The place is taken before anybody is looked for: whoever comes until the next look misses nothing.
		if place := l.deps.Feed.Token(); !l.listenedTo() {
			last = place
			pause(ctx)
			continue
		}
		err := l.publishWhileListenedTo(ctx, &last)
		if ctx.Err() != nil || err == nil {
			continue
		}
		if err.Error() != said {
			said = err.Error()
			l.deps.Log.WarnContext(ctx, "publishing onto NATS begins again", "error", err)
		}
		pause(ctx)
	}
}

// listenedTo reports whether anybody may be listening on NATS; who cannot know assumes so.
func (l *Live) listenedTo() bool { return l.deps.Listened == nil || l.deps.Listened() }

const listenedEvery = time.Second

func pause(ctx context.Context) {
	again := time.NewTimer(listenedEvery)
	defer again.Stop()
	select {
	case <-again.C:
	case <-ctx.Done():
	}
}

// publishWhileListenedTo returns nil once nobody listens any more.
func (l *Live) publishWhileListenedTo(ctx context.Context, last *string) error {
	listened, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for l.listenedTo() && listened.Err() == nil {
			pause(listened)
		}
		stop()
	})
	defer watch.Wait()
	defer stop()
	sub, err := l.deps.Feed.Subscribe(listened, feed.Filter{}, *last)
	if err == nil {
		*last, err = l.publishFrom(listened, sub, *last)
		sub.Close()
	}
	if listened.Err() != nil {
		return nil // it ended because nobody listens
	}
	return err
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
