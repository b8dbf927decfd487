package nats

import (
	"context"
	"time"
)

// endOverdue ends the leases of processes that have not renewed them for Config.Lease, until ctx ends.
func (r *roster) endOverdue(ctx context.Context) {
	lifetime := r.log.cfg.Lease
	for wait := lifetime / 3; pause(ctx, wait); {
		overdue, next := r.overdue()
		for id, revision := range overdue {
			r.endLease(ctx, id, revision)
		}
		const least = 10 * time.Millisecond
		wait = min(max(next, least), lifetime/3)
	}
}

// overdue returns the leases to end by their revisions, and how long until the next one may be.
func (r *roster) overdue() (ids map[string]uint64, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids, next = map[string]uint64{}, r.log.cfg.Lease
	now := r.log.cfg.Now()
	for id, s := range r.leases {
		if s.over || r.mine != nil && r.mine.id == id {
			continue
		}
		left := r.log.cfg.Lease - now.Sub(s.seen)
		if left <= 0 {
			ids[id] = s.revision
		} else {
			next = min(next, left)
		}
	}
	return ids, next
}

// endLease ends a lease unless it was renewed meanwhile, which the server decides.
func (r *roster) endLease(ctx context.Context, id string, at uint64) {
	_, err := r.write(ctx, leasePrefix+id, "", at)
	if err != nil && !changedByOther(err) {
		return // and try again
	}
	r.mu.Lock()
	s := r.leases[id]
	if s == nil || s.revision != at {
		r.mu.Unlock()
		return
	}
	if err != nil {
		s.seen = r.log.cfg.Now() // it lives, although its renewals do not get here
		r.mu.Unlock()
		return
	}
	s.over = true
	var orphans []string
	for group, g := range r.groups {
		for member, m := range g.members {
			if leaseOf(member) == id && !m.over {
				orphans = append(orphans, memberPrefix+group+"."+member)
			}
		}
	}
	r.tell()
	r.mu.Unlock()
	r.log.cfg.Log.Info("a process that reads the log has died; its shares go to others", "lease", id)
	for _, key := range orphans {
		_ = r.erase(ctx, key) // tidiness only
	}
}
