package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	roundsMax     = 8               // of catching up before the subscriber joins and its queue has to bear the rest
	readsMax      = 3               // of one range, when reading breaks
	trimmedWait   = 5 * time.Second // without a record where there should be one: it was trimmed. Longer than a busy disk makes a reader wait.
	pastEventsMax = 512             // in one delivery
)

// catchUp reads from the log what came after from until it is where the hub is, and joins it there. While it reads the hub goes
// on, so it reads again; what is left after some rounds is read while new events already gather in the queue, behind it.
func (s *Subscription) catchUp(ctx context.Context, from vector) error {
	if err := s.await(ctx, from); err != nil {
		return err
	}
	past := reading{sub: s, at: from, origins: make([]bus.Origins, len(from)), opened: make([]bus.Partition, len(from))}
	for round := 1; ; round++ {
		target, joined, err := s.hub.target(s, past.at, round == roundsMax)
		if err != nil {
			return err
		}
		for k := range target {
			if err := past.through(ctx, k, target[k]); err != nil {
				return err
			}
		}
		if joined {
			return nil
		}
	}
}

// target returns how far the hub is, in the partitions that s wants. It joins s to the hub at that place if s is there already,
// or anyway if last.
func (h *Hub) target(s *Subscription, at vector, last bool) (target vector, joined bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over() {
		return nil, false, ErrClosed
	}
	if err := s.over.Err(); err != nil { // quit has been here, and will not come again
		return nil, false, err
	}
	target = slices.Clone(at)
	there := true
	for k := range target {
		if s.wants[k] && at[k].Compare(h.at[k]) < 0 {
			target[k], there = h.at[k], false
		}
	}
	if !there && !last {
		return target, false, nil
	}
	for i := range h.joined {
		if slices.Contains(s.wants[i*h.each:(i+1)*h.each], true) {
			h.joined[i] = append(h.joined[i], s)
		}
	}
	return target, true, nil
}

// await waits until the hub has come as far as the token, which another process may have given that was quicker. A place that
// the log has not reached is replaced by the hub's.
func (s *Subscription) await(ctx context.Context, from vector) error {
	h := s.hub
	for k := range from {
		if !s.wants[k] || from[k].Compare(h.place(k)) <= 0 {
			continue
		}
		p, err := h.bus.Partition(ctx, h.ids[k])
		if err != nil {
			return err
		}
		end, err := p.End(ctx)
		if err != nil {
			return err
		}
		if from[k].Compare(end) > 0 {
			from[k] = h.place(k)
			s.miss(1)
		}
		if err := h.reach(ctx, k, from[k]); err != nil {
			return err
		}
	}
	return nil
}

// reach waits until the hub has handed out partition k up to at.
func (h *Hub) reach(ctx context.Context, k int, at bus.Position) error {
	for {
		h.mu.Lock()
		there := h.at[k].Compare(at) >= 0
		if h.moved == nil {
			h.moved = make(chan struct{})
		}
		moved := h.moved
		h.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-moved:
		case <-h.gone:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reading is a subscriber's way through the log.
type reading struct {
	sub     *Subscription
	at      vector
	origins []bus.Origins
	opened  []bus.Partition
	dec     decoder
	own     []byte
}

// through delivers partition k after where it is up to and with end.
func (r *reading) through(ctx context.Context, k int, end bus.Position) error {
	for try := 1; r.at[k].Compare(end) < 0; try++ {
		err := r.run(ctx, k, end)
		if err != nil && (try == readsMax || ctx.Err() != nil || errors.Is(err, bus.ErrClosed)) {
			return fmt.Errorf("live feed: read %s after %s: %w", r.sub.hub.ids[k], r.at[k], err)
		}
	}
	return nil
}

// run is one reading from a partition. Where nothing comes for a while although something should be there, it was trimmed.
func (r *reading) run(ctx context.Context, k int, end bus.Position) error {
	if r.opened[k] == nil {
		p, err := r.sub.hub.bus.Partition(ctx, r.sub.hub.ids[k])
		if err != nil {
			return err
		}
		r.opened[k] = p
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.AfterFunc(trimmedWait, cancel)
	defer patience.Stop()
	for batch, err := range r.opened[k].After(waiting, bus.Start{Position: before(r.at[k])}) {
		if err != nil {
			return err
		}
		inTime := patience.Stop() // a slow subscriber may take its time
		if err := r.deliver(ctx, k, batch.Records, end); err != nil {
			return err
		}
		if r.at[k].Compare(end) >= 0 || !inTime { // what came at the last moment says that there is more
			return nil
		}
		patience.Reset(trimmedWait)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.skip(k, end)
	return nil
}

// skip counts what was trimmed. Positions of one partition are dense in their sequences, so this is how many appends are gone,
// of at least one record each.
func (r *reading) skip(k int, to bus.Position) {
	r.sub.miss(max(1, to.Seq-r.at[k].Seq))
	r.at[k] = to
}

// deliver sends the records after where the reading is up to and with end.
func (r *reading) deliver(ctx context.Context, k int, recs []bus.Record, end bus.Position) error {
	if gap := recs[0].Position.Seq; gap > r.at[k].Seq+1 {
		r.skip(k, bus.Position{Seq: min(gap, end.Seq+1) - 1})
	}
	stream := Streams()[k/r.sub.hub.each]
	base := r.at.text(len(Streams()))
	var events []Event
	for i := range recs {
		rec := &recs[i]
		if rec.Position.Compare(end) > 0 {
			r.at[k] = end
			break
		}
		fresh := r.origins[k].Take(rec.Origin)
		if rec.Position.Compare(r.at[k]) <= 0 {
			continue
		}
		r.at[k] = rec.Position
		if !fresh {
			continue
		}
		tenant, device, channel, err := r.dec.decode(stream, rec.Value)
		if err != nil || !r.sub.filter.match(tenant, device, channel) {
			continue
		}
		events = append(events, r.dec.event(&r.own, base, k, rec.Position, device, channel))
		if len(events) == pastEventsMax {
			if err := r.send(ctx, events); err != nil {
				return err
			}
			events = nil
		}
	}
	return r.send(ctx, events)
}

// send waits until the subscriber takes the events; the log keeps the rest.
func (r *reading) send(ctx context.Context, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	select {
	case r.sub.past <- events:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
