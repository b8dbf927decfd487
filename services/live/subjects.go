package live

import (
	"context"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/feed"
)

// publish sends every event onto its NATS subject until ctx ends, as long as somebody listens there. NATS subjects keep
// nothing: who is not there misses it, and so does everybody while the connection is down. Whoever begins to listen gets all
// from then on, and what happened up to a second before.
//
// Several processes share the log's partitions out among them as a group, so that each event is published by one. Whoever takes a partition
// over goes on where the other one says that it was: exactly, when that one has left; when it died, at its last commit, so that
// what it published since, of a second at most, comes once more, and the rest as soon as its lease has run out.
func (l *Live) publish(ctx context.Context) {
	select {
	case <-l.deps.Feed.Ready():
	case <-ctx.Done():
		return
	}
	if l.deps.Group == nil {
		(&publisher{live: l}).run(ctx)
		return
	}
	for ctx.Err() == nil {
		err := l.deps.Group.Subscribe(ctx, publishers, feed.Topics(), l.publishShare)
		if ctx.Err() != nil {
			return
		}
		l.deps.Log.WarnContext(ctx, "sharing out what is published onto NATS begins again", "error", err)
		pause(ctx)
	}
}

// publishers is the group of those who publish. What it has not read the log need not keep.
const publishers = bus.OnlookerPrefix + "live-nats"

// publishShare publishes one share for as long as this process owns it.
func (l *Live) publishShare(ctx context.Context, share bus.Share) error {
	p := &publisher{live: l, filter: feed.Filter{Shares: []int{share.Number}}, share: &share, written: l.deps.Now()}
	for said := ""; ctx.Err() == nil; pause(ctx) {
		at, err := p.resume(ctx)
		if err == nil {
			p.last = l.deps.Feed.TokenAt(share.Number, at)
			p.run(ctx)
			p.note(ctx)
		} else if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			l.deps.Log.WarnContext(ctx, "cannot find where publishing onto NATS is to go on; trying on", "share", share.Number, "error", err)
		}
	}
	return nil
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
