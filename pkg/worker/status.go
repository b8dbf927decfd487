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
	LagSeconds float64 // how long the oldest unread record has waited at most, of the partition furthest behind; 0 where nothing is unread
	Behind     uint64  // positions appended and not committed, over all partitions, as of the last look, at most 5 s old
	Retrying   string  // what is being tried again, and why, or why the worker has ended and is to be started again; "" when all is well
}

// Statuses returns the status of every loop that is running with m, and of those that ended by an error and do not run again
// yet, sorted by worker.
func (m *Metrics) Statuses() []Status {
	running, down := m.running(), m.ended()
	all := make([]Status, 0, len(running)+len(down))
	for _, w := range running {
		all = append(all, w.status())
	}
	for name, why := range down {
		all = append(all, Status{Worker: name, Retrying: why})
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

	writing  atomic.Int64 // since when a commit is under way, Unix nanoseconds; 0 while none is
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

	newest   atomic.Int64  // when the log took the newest record taken, Unix nanoseconds; 0 while none was
	first    atomic.Int64  // likewise of the first record after the last commit, while none was taken; 0 while that is not known
	pending  atomic.Int64  // likewise of the first record taken since the last commit, about; 0 where there is none
	clear    atomic.Int64  // the newest moment as of which nothing was unread, Unix nanoseconds
	through  atomic.Uint64 // sequence of the last commit
	end      atomic.Uint64 // sequence of the newest record, as of the last look
	looked   atomic.Bool   // there was a look
	seq      atomic.Uint64 // sequence of the newest record taken, at first of the last commit
	delay    atomic.Int64  // how old the newest record taken was then, nanoseconds
	caughtUp atomic.Bool   // at the last look nothing was unread, and nothing was read since
}

// begins sets where reading begins.
func (p *partTrack) begins(at bus.Position) {
	p.through.Store(at.Seq)
	p.seq.Store(at.Seq)
}

// saw takes note of the log's end as of a moment, Unix nanoseconds.
func (p *partTrack) saw(end bus.Position, asked int64) {
	p.end.Store(end.Seq)
	p.looked.Store(true)
	switch {
	case end.Seq > p.seq.Load():
		p.caughtUp.Store(false)
	case p.caughtUp.Load():
		p.clear.Store(asked)
	}
}

// committed takes note of a commit.
func (p *partTrack) committed(through bus.Position) {
	p.through.Store(through.Seq)
	p.pending.Store(0)
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

// writesFor is how long a commit may be under way before it counts as a delay of its own: the store may hang without any error.
const writesFor = 2 * time.Second

// lagSeconds is how far p is behind the log: as long as all goes well and the newest look at the log's end shows nothing
// unread, how old the newest record was when it was taken; else how old the oldest may be that is not committed, or not taken: all up to
// the newest one taken, and to the last moment when nothing was unread, is.
func (p *partTrack) lagSeconds(now int64, s *shareTrack) float64 {
	writing := s.writing.Load()
	stuck := s.troubled.Load() > 0 || writing > 0 && now-writing > int64(writesFor)
	var from int64
	switch {
	case stuck && p.pending.Load() > 0:
		from = p.pending.Load()
	case p.caughtUp.Load():
		return 0
	case !stuck && p.looked.Load() && p.seq.Load() >= p.end.Load():
		return time.Duration(p.delay.Load()).Seconds()
	default:
		from = cmp.Or(max(p.newest.Load(), p.clear.Load()), p.first.Load(), s.since)
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
