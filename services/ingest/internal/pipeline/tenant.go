package pipeline

import (
	"sync"
	"time"
)

// tenant holds all devices together to a rate, and shares it out: while they are over it, a device that has sent less than its
// share of the present second is taken all the same, so that those who send most are refused first. nil is no limit.
type tenant struct {
	rates Rates

	mu              sync.Mutex
	messages, bytes bucket
	second          int64 // Unix
	active          int64 // devices that have sent in it
	before          int64 // in the second before
}

// recent is what a device has sent in one second.
type recent struct {
	second, messages, bytes int64
}

func newTenant(r Rates) *tenant {
	if r.TenantMessages.PerSecond <= 0 && r.TenantBytes.PerSecond <= 0 {
		return nil
	}
	r.TenantMessages.Burst = max(r.TenantMessages.Burst, r.TenantMessages.PerSecond)
	r.TenantBytes.Burst = max(r.TenantBytes.Burst, r.TenantBytes.PerSecond)
	return &tenant{rates: r}
}

// charge is limiter.charge for the tenant. d is what the device has sent; its lock is held.
func (t *tenant) charge(d *recent, messages, bytes, now int64, forced bool) (wait time.Duration, over Quota) {
	if t == nil {
		return 0, QuotaNone
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(d, now)
	wait, over = t.look(d, messages, bytes, now)
	if over != QuotaNone && !forced {
		return wait, over
	}
	d.messages += messages
	d.bytes += bytes
	t.messages.add(t.rates.TenantMessages, messages, now)
	t.bytes.add(t.rates.TenantBytes, bytes, now)
	return wait, over
}

// count begins a second, and counts a device that is new in it.
func (t *tenant) count(d *recent, now int64) {
	if second := now / int64(time.Second); second > t.second {
		if t.before = t.active; second > t.second+1 {
			t.before = 0
		}
		t.second, t.active = second, 0
	}
	if d.second != t.second {
		*d = recent{second: t.second}
		t.active++
	}
}

// look names the quota that all together are over, unless the device has not had its share yet.
func (t *tenant) look(d *recent, messages, bytes, now int64) (wait time.Duration, over Quota) {
	devices := max(t.active, t.before, 1)
	untilNext := (t.second+1)*int64(time.Second) - now // then it has a share again
	if left := t.messages.over(t.rates.TenantMessages, now); left > 0 && d.messages+messages > t.rates.TenantMessages.PerSecond/devices {
		return time.Duration(max(min(left, untilNext), 1)), QuotaTenantMessages
	}
	if left := t.bytes.over(t.rates.TenantBytes, now); left > 0 && d.bytes+bytes > t.rates.TenantBytes.PerSecond/devices {
		return time.Duration(max(min(left, untilNext), 1)), QuotaTenantBytes
	}
	return 0, QuotaNone
}
