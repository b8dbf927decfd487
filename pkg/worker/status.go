package worker

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
)

// Status is how one worker is doing, for a line that people read.
type Status struct {
	Worker     string
	Shares     int     // owned by this process; 0 while it stands by
	Records    uint64  // taken since Run began
	LagSeconds float64 // age of the newest record taken, of the partition furthest behind; 0 where nothing is unread
	Behind     uint64  // positions appended and not committed, over all partitions, as of the last look, at most 5 s old
	Retrying   string  // what is being tried again, and why; "" when all is well
}

// Statuses returns the status of every loop that is running with m, sorted by worker.
func (m *Metrics) Statuses() []Status {
	running := m.running()
	all := make([]Status, 0, len(running))
	for _, w := range running {
		all = append(all, w.status())
	}
	slices.SortStableFunc(all, func(a, b Status) int { return cmp.Compare(a.Worker, b.Worker) })
	return all
}

type clock = func() time.Time

// workerTrack is what is known of one running loop. Safe for concurrent use, like all that hangs on it.
type workerTrack struct {
	name    string
	now     clock
	records atomic.Uint64

	mu     sync.Mutex
	shares []*shareTrack
}

func (w *workerTrack) add(parts []*part) *shareTrack {
	s := &shareTrack{worker: w, since: w.now().UnixNano(), troubles: make(map[string]string)}
	for _, p := range parts {
		s.parts = append(s.parts, p.track)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shares = append(w.shares, s)
	return s
}

func (w *workerTrack) remove(s *shareTrack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shares = slices.DeleteFunc(slices.Clone(w.shares), func(o *shareTrack) bool { return o == s })
}

func (w *workerTrack) owned() []*shareTrack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.shares)
}

func (w *workerTrack) status() Status {
	now := w.now().UnixNano()
	shares := w.owned()
	st := Status{Worker: w.name, Shares: len(shares), Records: w.records.Load()}
	for _, s := range shares {
		if st.Retrying == "" {
			st.Retrying = s.trouble()
		}
		for _, p := range s.parts {
			st.LagSeconds = max(st.LagSeconds, p.lagSeconds(now, s))
			st.Behind += p.behind()
		}
	}
	return st
}

// shareTrack is what is known of one share.
type shareTrack struct {
	worker *workerTrack
	parts  []*partTrack
	since  int64 // when it was taken over, Unix nanoseconds

	troubled atomic.Int32 // len(troubles)
	mu       sync.Mutex
	troubles map[string]string // what is being tried again, by step
}

// retry records that step is being tried again because of err; a nil err ends that.
func (s *shareTrack) retry(step string, err error) {
	if err == nil && s.troubled.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.troubles, step)
	} else {
		s.troubles[step] = step + ": " + err.Error()
	}
	s.troubled.Store(int32(len(s.troubles))) //nolint:gosec // there are few steps
}

func (s *shareTrack) trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make([]string, 0, len(s.troubles))
	for _, t := range s.troubles {
		lines = append(lines, t)
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// partTrack is what is known of one partition of a share.
type partTrack struct {
	id                        bus.PartitionID
	records, refused, doubles prometheus.Counter

	newest   atomic.Int64  // when the log took the newest record taken, Unix nanoseconds
	through  atomic.Uint64 // sequence of the last commit
	end      atomic.Uint64 // sequence of the newest record, as of the last look
	seq      atomic.Uint64 // sequence of the newest record taken
	delay    atomic.Int64  // how old that record was then, nanoseconds
	caughtUp atomic.Bool   // at the last look nothing was unread, and nothing was read since
}

func (p *partTrack) took(records, doubles int, newest bus.Record, now int64) {
	p.records.Add(float64(records))
	if doubles > 0 {
		p.doubles.Add(float64(doubles))
	}
	p.newest.Store(newest.Time)
	p.seq.Store(newest.Position.Seq)
	p.delay.Store(max(0, now-newest.Time))
	p.caughtUp.Store(false)
}

// lagSeconds is how far p is behind the log: as long as all goes well and the newest look at the log's end shows nothing
// unread, how old the newest record was when it was taken; else how old it is by now.
func (p *partTrack) lagSeconds(now int64, s *shareTrack) float64 {
	switch {
	case p.caughtUp.Load():
		return 0
	case s.troubled.Load() == 0 && p.seq.Load() > 0 && p.seq.Load() >= p.end.Load():
		return time.Duration(p.delay.Load()).Seconds()
	}
	from := p.newest.Load()
	if from == 0 {
		from = s.since
	}
	return max(0, time.Duration(now-from).Seconds())
}

func (p *partTrack) behind() uint64 {
	end, through := p.end.Load(), p.through.Load()
	if end < through {
		return 0
	}
	return end - through
}
