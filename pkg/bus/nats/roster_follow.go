package nats

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// apply takes one entry of the bucket. age is how old it is by the server's clock. It reports whether members should know.
func (r *roster) apply(key, value string, revision uint64, age time.Duration) bool {
	kind, rest, _ := strings.Cut(key, ".")
	switch kind + "." {
	case leasePrefix:
		return r.applyLease(rest, value == "", revision, age)
	case memberPrefix:
		group, member, _ := strings.Cut(rest, ".")
		joined, err := strconv.ParseInt(value, 10, 64)
		r.group(group).members[member] = &seenMember{joined: joined, leaving: err != nil, over: value == ""}
		r.refer(leaseOf(member))
	case sharePrefix:
		group, number, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(number)
		if err != nil {
			return false
		}
		r.group(group).shares[n] = claim{owner: value, revision: revision}
		r.refer(leaseOf(value))
	}
	return true
}

func (r *roster) applyLease(id string, over bool, revision uint64, age time.Duration) bool {
	s, now := r.leases[id], r.log.cfg.Now()
	if known := r.before[id]; known != nil && known.revision == revision {
		r.leases[id] = known
		return false
	}
	if s == nil {
		// One that is found old needs no full lease of watching, but enough that a living one is renewed in that time.
		lifetime := r.log.cfg.Lease
		r.leases[id] = &seenLease{revision: revision, over: over, seen: now.Add(-min(max(age-lifetime, 0), lifetime-lifetime/3))}
		return true
	}
	if s.revision == revision {
		return false
	}
	news := s.over != over
	s.revision, s.over, s.seen = revision, over, now
	return news
}

// follow keeps the roster up to date until ctx ends.
func (r *roster) follow(ctx context.Context) {
	const again = 100 * time.Millisecond
	for ctx.Err() == nil {
		err := r.read(ctx)
		if ctx.Err() != nil || errors.Is(err, nats.ErrConnectionClosed) {
			return
		}
		r.log.cfg.Log.Debug("follow the groups again", "error", err)
		if !pause(ctx, again) {
			return
		}
	}
}

// read takes what the bucket has, and then every change, until that breaks.
func (r *roster) read(ctx context.Context) error {
	l := r.log
	bounded, cause, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	stream := keyValuePrefix + l.cfg.Prefix + groupsBucket
	consumer, err := l.js.CreateConsumer(bounded, stream, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerInactive,
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: "$KV." + l.cfg.Prefix + groupsBucket + ".>",
	})
	if err != nil {
		return errors.Join(cause(), err)
	}
	info := consumer.CachedInfo()
	fresh := r.afresh()
	if info.NumPending == 0 {
		r.adopt(ctx, fresh)
	}
	prefix := "$KV." + l.cfg.Prefix + groupsBucket + "."
	return l.deliver(ctx, stream, consumer, max(l.cfg.Lease/4, heartbeatMin), func(msg *nats.Msg, meta *nats.MsgMetadata) bool {
		key, value := strings.TrimPrefix(msg.Subject, prefix), string(msg.Data)
		age := info.TimeStamp.Sub(meta.Timestamp)
		if fresh.loaded { // and what it knows is r's by now
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.apply(key, value, meta.Sequence.Stream, age) {
				r.tell()
			}
			return true
		}
		fresh.apply(key, value, meta.Sequence.Stream, age)
		if value == "" && age > staleLeases*l.cfg.Lease && !strings.HasPrefix(key, sharePrefix) {
			fresh.stale = append(fresh.stale, key)
		}
		if meta.NumPending == 0 {
			r.adopt(ctx, fresh)
		}
		return true
	})
}

// afresh returns an empty roster that knows since when the leases have the revisions that they have.
func (r *roster) afresh() *roster {
	fresh := newRoster(r.log)
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh.before = map[string]*seenLease{}
	for id, s := range r.leases {
		known := *s
		fresh.before[id] = &known
	}
	return fresh
}

// adopt replaces what r knows by what fresh has read.
func (r *roster) adopt(ctx context.Context, fresh *roster) {
	fresh.loaded, fresh.before = true, nil
	r.set(func() {
		r.leases, r.groups, r.loaded = fresh.leases, fresh.groups, true
	})
	r.running.Go(func() { r.tidy(ctx, fresh.stale) })
}

// tidy removes leases and members from the bucket that have long been over and own nothing.
func (r *roster) tidy(ctx context.Context, keys []string) {
	for _, key := range keys[:min(len(keys), tidyMax)] {
		if r.owns(key) {
			continue
		}
		bounded, _, cancel := r.log.bounded(ctx, requestTimeout)
		stream, err := r.log.js.Stream(bounded, keyValuePrefix+r.log.cfg.Prefix+groupsBucket)
		if err == nil {
			err = stream.Purge(bounded, jetstream.WithPurgeSubject("$KV."+r.log.cfg.Prefix+groupsBucket+"."+key))
		}
		cancel()
		if err != nil {
			return // the next one who comes will do it
		}
	}
}

// owns reports whether a share is recorded as belonging to the lease or member of that key.
func (r *roster) owns(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for group, g := range r.groups {
		for _, c := range g.shares {
			if key == leasePrefix+leaseOf(c.owner) || key == memberPrefix+group+"."+c.owner {
				return true
			}
		}
	}
	return false
}
