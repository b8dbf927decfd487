package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
)

var (
	// ErrTooMany is returned by Subscribe when there are as many subscribers as are allowed.
	ErrTooMany = errors.New("too many live subscribers")
	// ErrClosed is returned by Subscribe and Next after Hub.Run has returned.
	ErrClosed = errors.New("the live feed has ended")
)

// Reader is what the hub needs of the bus.
type Reader interface {
	Partition(ctx context.Context, id bus.PartitionID) (bus.Partition, error)
	Partitions(topic string) int
}

// Deps is what a hub needs. The caller closes it after Run has returned.
type Deps struct {
	Bus     Reader
	Metrics prometheus.Registerer // nil registers nothing
	Log     *slog.Logger
}

// Hub reads the log's end for all subscribers of a process. Safe for concurrent use.
type Hub struct {
	cfg     Config
	bus     Reader
	log     *slog.Logger
	metrics *metrics
	each    int               // partitions of a stream
	ids     []bus.PartitionID // by stream and number, as in a vector

	ready chan struct{} // closed once at is known for every partition
	gone  chan struct{} // closed when Run returns

	mu     sync.Mutex
	known  int    // partitions whose place is known
	at     vector // how far the hub has handed out
	moved  chan struct{}
	taken  int               // subscribers that exist, also those that still catch up
	joined [][]*Subscription // by stream, those that get what comes
	dec    decoder
	own    []byte // scratch for the texts of an event
}

// NewHub returns a hub that does nothing yet; Run makes it live.
func NewHub(cfg Config, d Deps) (*Hub, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("live feed: %w", err)
	}
	m, err := newMetrics(d.Metrics)
	if err != nil {
		return nil, err
	}
	h := &Hub{cfg: cfg, bus: d.Bus, log: d.Log, metrics: m, ready: make(chan struct{}), gone: make(chan struct{})}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.each = max(d.Bus.Partitions(bus.Telemetry), 1)
	for _, topic := range Topics() {
		for n := range h.each {
			h.ids = append(h.ids, bus.PartitionID{Topic: topic, Number: n})
		}
	}
	h.at = make(vector, len(h.ids))
	h.joined = make([][]*Subscription, len(Streams()))
	return h, nil
}

// Ready is closed once the hub knows the log's end: from then on nothing that is appended escapes it.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// Subscribers returns how many there are.
func (h *Hub) Subscribers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.taken
}

// Token returns the token of the place up to which the hub has handed out, the log's end as it knows it; "" until it is ready.
func (h *Hub) Token() string {
	select {
	case <-h.ready:
	default:
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at.text(len(Streams()))
}

// Run reads until ctx ends, and tries again for ever what goes wrong. It returns nil, or an error when the log is closed or does
// not know a topic. When it has returned subscriptions are over, and calling it again returns ErrClosed.
func (h *Hub) Run(ctx context.Context) error {
	if h.over() {
		return ErrClosed
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	faults := make([]error, len(h.ids))
	var all sync.WaitGroup
	for k := range h.ids {
		all.Go(func() {
			if faults[k] = h.follow(reading, k); faults[k] != nil {
				stop()
			}
		})
	}
	all.Wait()
	h.mu.Lock()
	close(h.gone)
	subs := slices.Concat(h.joined...)
	h.mu.Unlock()
	for _, s := range subs {
		s.fail(ErrClosed)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("live feed: %w", err)
	}
	return nil
}

const (
	backoffFirst = 50 * time.Millisecond
	backoffMax   = 5 * time.Second
)

// follow reads one partition until ctx ends.
func (h *Hub) follow(ctx context.Context, k int) error {
	wait := backoffFirst
	var origins bus.Origins
	located := false
	for {
		before := h.place(k)
		err := h.read(ctx, k, &origins, &located)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end was asked for
		case errors.Is(err, bus.ErrClosed), errors.Is(err, bus.ErrUnknownTopic):
			return err
		case errors.Is(err, bus.ErrAhead): // the log is another one than before
			located, origins = false, nil
		}
		if h.place(k) != before {
			wait = backoffFirst
		}
		h.log.Warn("the live feed reads again", "partition", h.ids[k].String(), "error", err, "wait", wait)
		if !pause(ctx, wait/2+rand.N(wait/2+1)) { //nolint:gosec // jitter
			return nil
		}
		wait = min(2*wait, backoffMax)
	}
}

// pause reports false when ctx ended before d had passed.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// read finds the partition's end, the first time, and takes what comes after it. It begins one append before, so that origins
// know what was there: what a router appends again is not handed out.
func (h *Hub) read(ctx context.Context, k int, origins *bus.Origins, located *bool) error {
	p, err := h.bus.Partition(ctx, h.ids[k])
	if err != nil {
		return err
	}
	if !*located {
		end, err := p.End(ctx)
		if err != nil {
			return err
		}
		h.locate(k, end)
		*located = true
	}
	for batch, err := range p.After(ctx, bus.Start{Position: before(h.place(k))}) {
		if err != nil {
			return err
		}
		h.take(k, batch.Records, origins)
	}
	return errors.New("reading ended")
}

// before returns a position from which reading begins at the latest with the append that holds p.
func before(p bus.Position) bus.Position {
	if p.Seq == 0 {
		return bus.Position{}
	}
	return bus.Position{Seq: p.Seq - 1}
}

func (h *Hub) place(k int) bus.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[k]
}

func (h *Hub) locate(k int, end bus.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[k] = end
	select {
	case <-h.ready: // once more, after the log was replaced
		return
	default:
	}
	if h.known++; h.known == len(h.ids) {
		close(h.ready)
	}
}

// take hands the records of a partition out.
func (h *Hub) take(k int, recs []bus.Record, origins *bus.Origins) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stream, subs := Streams()[k/h.each], h.joined[k/h.each]
	base := "" // the token of the place before these records, made when it is needed
	for i := range recs {
		r := &recs[i]
		if !origins.Take(r.Origin) || r.Position.Compare(h.at[k]) <= 0 || len(subs) == 0 {
			continue
		}
		tenant, device, channel, err := h.dec.decode(stream, r.Value)
		if err != nil {
			h.metrics.undecodable.Inc() // the workers that read the same topic make a dead letter of it
			continue
		}
		var e Event
		for _, s := range subs {
			if !s.wants[k] || !s.filter.match(tenant, device, channel) {
				continue
			}
			if e.Data == nil {
				if base == "" {
					base = h.at.text(len(Streams()))
				}
				e = h.dec.event(&h.own, base, k, r.Position, device, channel)
				h.metrics.events.WithLabelValues(stream).Inc()
			}
			s.push(e)
		}
	}
	if last := recs[len(recs)-1].Position; last.Compare(h.at[k]) > 0 {
		h.at[k] = last
	}
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}

// over reports whether Run has returned.
func (h *Hub) over() bool {
	select {
	case <-h.gone:
		return true
	default:
		return false
	}
}

// event makes an event of what was last decoded: two allocations, of just the bytes it needs, since an event may wait in a queue for
// long and would keep what it shares memory with.
func (d *decoder) event(scratch *[]byte, base string, k int, at bus.Position, device, channel string) Event {
	b := append(append((*scratch)[:0], device...), channel...)
	named := len(b)
	b = appendStep(append(b, base...), k, at)
	*scratch = b
	texts := string(b)
	return Event{
		Stream: d.stream, Device: texts[:len(device)], Channel: texts[len(device):named], ID: texts[named:],
		Data: slices.Clone(d.encode()),
	}
}
