package pipeline

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"
)

// limiterShards spreads the devices over as many locks.
const limiterShards = 32

// Quota is which bound a device is over.
type Quota uint8

// The bounds, in the order in which they are looked at.
const (
	QuotaNone Quota = iota
	QuotaDeviceMessages
	QuotaDeviceBytes
	QuotaTenantMessages
	QuotaTenantBytes
	quotas
)

// String returns the metric's label.
func (q Quota) String() string {
	return [...]string{"none", "device_messages", "device_bytes", "tenant_messages", "tenant_bytes"}[q]
}

// Rate is so much a second, and so much at once beyond it. A PerSecond of 0 is no limit.
type Rate struct {
	PerSecond, Burst int64
}

// Rates hold each device to its own rate, and all together to the tenant's.
type Rates struct {
	Messages, Bytes             Rate // of one device
	TenantMessages, TenantBytes Rate // of all; Burst 0 is that of one second
	DevicesMax                  int  // whose rates are remembered at a time
}

// bucket is a rate's state in one number, the time (Unix nanoseconds) at which what was sent would have been sent at the
// permitted rate (the generic cell rate algorithm, ITU-T I.371).
type bucket int64

// over returns how long it takes until the bucket is within its burst, 0 or less where it is.
func (b bucket) over(r Rate, now int64) int64 {
	if r.PerSecond <= 0 {
		return 0
	}
	return max(int64(b), now) - now - r.cost(r.Burst)
}

func (b *bucket) add(r Rate, n, now int64) {
	if r.PerSecond > 0 {
		*b = bucket(max(int64(*b), now) + r.cost(n))
	}
}

// cost returns the nanoseconds in which n are permitted. What would overflow is no message.
func (r Rate) cost(n int64) int64 {
	const second = int64(time.Second)
	return n/r.PerSecond*second + n%r.PerSecond*second/r.PerSecond
}

// limiter knows what each device has sent. Who is not ahead of its rate has no state to lose, and is forgotten when room is
// needed. Safe for concurrent use.
type limiter struct {
	rates    Rates
	tenant   *tenant // nil where the tenant has no limit
	perShard int
	seed     maphash.Seed
	shards   [limiterShards]limiterShard
}

type limiterShard struct {
	mu      sync.RWMutex
	devices map[string]*device
}

// device is what one device has sent.
type device struct {
	mu              sync.Mutex
	messages, bytes bucket
	recent          recent
}

// newLimiter returns a limiter; nil, which permits everything, for rates that are no limit.
func newLimiter(r Rates) *limiter {
	t := newTenant(r)
	if r.Messages.PerSecond <= 0 && r.Bytes.PerSecond <= 0 && t == nil {
		return nil
	}
	l := &limiter{rates: r, tenant: t, perShard: max(r.DevicesMax/limiterShards, 1), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].devices = map[string]*device{}
	}
	return l
}

// charge counts messages of so many bytes of a device at now (Unix nanoseconds). Where the device is over a quota, that is named,
// and nothing is counted unless forced. wait is how long the device should pause until it is within its burst again, 0 where it is.
// A body of more than the burst is taken when the device is within it, and paid for afterwards.
func (l *limiter) charge(name string, messages, bytes, now int64, forced bool) (wait time.Duration, over Quota) {
	if l == nil || messages == 0 && bytes == 0 {
		return 0, QuotaNone
	}
	d := l.device(name, now)
	d.mu.Lock()
	defer d.mu.Unlock()
	wait, over = l.look(d, now)
	if over == QuotaNone {
		wait, over = l.tenant.charge(&d.recent, messages, bytes, now, forced)
	} else if forced {
		l.tenant.charge(&d.recent, messages, bytes, now, true)
	}
	if over != QuotaNone && !forced {
		return wait, over
	}
	d.messages.add(l.rates.Messages, messages, now)
	d.bytes.add(l.rates.Bytes, bytes, now)
	if after, why := l.look(d, now); after > wait {
		wait = after
		if forced {
			over = why
		}
	}
	return wait, over
}

// over returns which quota a device is over, and for how long, without counting anything.
func (l *limiter) over(name string, now int64) (wait time.Duration, over Quota) {
	if l == nil {
		return 0, QuotaNone
	}
	s := l.shard(name)
	s.mu.RLock()
	d := s.devices[name]
	s.mu.RUnlock()
	if d == nil {
		return 0, QuotaNone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return l.look(d, now)
}

// look holds a device to its own rates. d.mu is held.
func (l *limiter) look(d *device, now int64) (wait time.Duration, over Quota) {
	if over := d.messages.over(l.rates.Messages, now); over > 0 {
		return time.Duration(over), QuotaDeviceMessages
	}
	if over := d.bytes.over(l.rates.Bytes, now); over > 0 {
		return time.Duration(over), QuotaDeviceBytes
	}
	return 0, QuotaNone
}

func (l *limiter) shard(name string) *limiterShard {
	return &l.shards[maphash.String(l.seed, name)%limiterShards]
}

func (l *limiter) device(name string, now int64) *device {
	s := l.shard(name)
	s.mu.RLock()
	d := s.devices[name]
	s.mu.RUnlock()
	if d != nil {
		return d
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d = s.devices[name]; d != nil {
		return d
	}
	if len(s.devices) >= l.perShard {
		s.forget(now)
	}
	d = &device{}
	s.devices[strings.Clone(name)] = d // the caller's string may lie in a buffer
	return d
}

// forget drops devices that are not ahead of now, and, where all are, half of the rest: better a device that is let through
// for once than memory without a bound. s.mu is held.
func (s *limiterShard) forget(now int64) {
	before := len(s.devices)
	for name, d := range s.devices {
		if d.idle(now) {
			delete(s.devices, name)
		}
	}
	if len(s.devices) < before {
		return
	}
	for name := range s.devices {
		if len(s.devices) <= before/2 {
			return
		}
		delete(s.devices, name)
	}
}

func (d *device) idle(now int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(max(d.messages, d.bytes)) <= now
}
