package pipeline

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// limiterShards spreads the devices over as many locks.
const limiterShards = 32

// limiter holds each device to a rate of messages. A device's state is one number, the time at which what it has sent would
// have been sent at the permitted rate (the generic cell rate algorithm, ITU-T I.371); who is not ahead of now has no state
// to lose, and is forgotten when room is needed.
type limiter struct {
	interval time.Duration // of one message
	burst    time.Duration // how far ahead a device may be
	perShard int
	seed     maphash.Seed
	shards   [limiterShards]limiterShard
}

type limiterShard struct {
	mu      sync.RWMutex
	devices map[string]*atomic.Int64 // theoretical arrival time, Unix nanoseconds
}

// newLimiter returns a limiter of messages a second with room for a burst of messages, for at most devicesMax devices at a
// time; nil, which permits everything, for a rate of 0.
func newLimiter(perSecond, burst, devicesMax int) *limiter {
	if perSecond <= 0 {
		return nil
	}
	interval := max(time.Second/time.Duration(perSecond), 1)
	l := &limiter{
		interval: interval, burst: time.Duration(burst) * interval,
		perShard: max(devicesMax/limiterShards, 1), seed: maphash.MakeSeed(),
	}
	for i := range l.shards {
		l.shards[i].devices = map[string]*atomic.Int64{}
	}
	return l
}

// charge counts n messages of device at now (Unix nanoseconds). ok is false where the device is over its burst: then nothing
// is counted unless forced. wait is how long the device should pause until it is within its burst again, 0 where it is.
// A body of more messages than the burst is taken when the device is within it, and paid for afterwards.
func (l *limiter) charge(device string, n int, now int64, forced bool) (wait time.Duration, ok bool) {
	if l == nil || n == 0 {
		return 0, true
	}
	ahead := l.state(device, now)
	cost := int64(n) * int64(l.interval)
	for {
		old := ahead.Load()
		at := max(old, now)
		if over := at - now - int64(l.burst); over > 0 && !forced {
			return time.Duration(over), false
		}
		if ahead.CompareAndSwap(old, at+cost) {
			return time.Duration(max(at+cost-now-int64(l.burst), 0)), true
		}
	}
}

func (l *limiter) state(device string, now int64) *atomic.Int64 {
	s := &l.shards[maphash.String(l.seed, device)%limiterShards]
	s.mu.RLock()
	ahead := s.devices[device]
	s.mu.RUnlock()
	if ahead != nil {
		return ahead
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ahead = s.devices[device]; ahead != nil {
		return ahead
	}
	if len(s.devices) >= l.perShard {
		s.forget(now)
	}
	ahead = &atomic.Int64{}
	s.devices[strings.Clone(device)] = ahead // the caller's string may lie in a buffer
	return ahead
}

// forget drops devices that are not ahead of now, and, where all are, half of the rest: better a device that is let through
// for once than memory without a bound. s.mu is held.
func (s *limiterShard) forget(now int64) {
	before := len(s.devices)
	for device, ahead := range s.devices {
		if ahead.Load() <= now {
			delete(s.devices, device)
		}
	}
	if len(s.devices) < before {
		return
	}
	for device := range s.devices {
		if len(s.devices) <= before/2 {
			return
		}
		delete(s.devices, device)
	}
}
