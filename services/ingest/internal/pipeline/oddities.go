package pipeline

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How the devices with something odd are named in the log: a label for each would be a series for each. One line for each kind of
// oddity and so long, with the device that it was noticed on first, and how many messages there were since the last line.
const (
	oddityEvery = 10 * time.Second
	odditiesMax = 32 // kinds; there are four
)

// oddities counts what a decoder found odd. Safe for concurrent use.
type oddities struct {
	log   *slog.Logger
	now   func() time.Time
	count *prometheus.CounterVec

	mu    sync.Mutex
	kinds map[string]*oddity
}

// oddity is what the log was told of one kind.
type oddity struct {
	said     time.Time
	messages int // since then
}

func (o *oddities) note(what, device string) {
	o.count.WithLabelValues(what).Inc()
	if messages, say := o.say(what); say {
		o.log.Warn("a device sends something odd", "what", what, "device", device, "messages", messages)
	}
}

// say reports whether it is time to name a device, and how many messages of this kind there were since the last time.
func (o *oddities) say(what string) (messages int, say bool) {
	now := o.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	k := o.kinds[what]
	if k == nil {
		if o.kinds == nil {
			o.kinds = map[string]*oddity{}
		}
		if len(o.kinds) == odditiesMax {
			return 0, false
		}
		k = &oddity{}
		o.kinds[what] = k
	}
	k.messages++
	if now.Sub(k.said) < oddityEvery {
		return 0, false
	}
	messages = k.messages
	*k = oddity{said: now}
	return messages, true
}
