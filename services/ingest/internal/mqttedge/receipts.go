package mqttedge

import (
	"github.com/millrace/millrace/pkg/mqtt"
)

// receipt is a packet that waits for its turn to be answered.
type receipt struct {
	at      int64  // when it came, Unix nanoseconds
	size    uint32 // bytes in flight because of it
	pending uint32 // records that are not on disk yet
	id      uint16
	kind    mqtt.Type // of the answer; 0 for none, as with QoS 0
	reason  mqtt.Reason
}

// receipts holds what is to be answered in the order in which it came, and for each lane which receipts its next records
// belong to. So an answer costs nothing but its turn: reports of one lane come in order, and those of several lanes meet here.
// Guarded by conn.mu.
type receipts struct {
	ring       []receipt // a power of two long; seq is at ring[seq % len]
	head, tail uint64    // seq of the oldest, and of the next one
	bytes      int
	unreported int // records submitted and not yet reported
}

// ringKeep is how long a ring an idle connection keeps.
const ringKeep = 1024

// add puts r at the end and returns its seq.
func (q *receipts) add(r *receipt) uint64 {
	n := q.tail - q.head
	if int(n) == len(q.ring) { //nolint:gosec // G115: bounded by the packets in flight
		q.grow()
	}
	*q.at(q.tail) = *r
	q.tail++
	q.bytes += int(r.size)
	return q.tail - 1
}

// at returns the place of seq.
func (q *receipts) at(seq uint64) *receipt {
	return &q.ring[seq&uint64(len(q.ring)-1)] //nolint:gosec // G115: a ring is at least 16 long
}

func (q *receipts) grow() {
	bigger := receipts{ring: make([]receipt, max(16, 2*len(q.ring)))}
	for seq := q.head; seq < q.tail; seq++ {
		*bigger.at(seq) = *q.at(seq)
	}
	q.ring = bigger.ring
}

// next returns the oldest receipt when it can be answered.
func (q *receipts) next() (receipt, bool) {
	if q.head == q.tail {
		return receipt{}, false
	}
	r := q.at(q.head)
	if r.pending > 0 {
		return receipt{}, false
	}
	q.head++
	q.bytes -= int(r.size)
	if q.head == q.tail && len(q.ring) > ringKeep {
		out := *r
		q.ring = nil
		return out, true
	}
	return *r, true
}

// unanswered yields what is left, in order.
func (q *receipts) unanswered(yield func(*receipt) bool) {
	for seq := q.head; seq < q.tail; seq++ {
		if !yield(q.at(seq)) {
			return
		}
	}
}

// run is a stretch of records of one lane that belong to n receipts in a row, one record each.
type run struct {
	first uint64
	n     uint64
}

// lane is the ticket of one connection for one partition.
type lane struct {
	conn *conn
	runs []run
	head int
}

// expect says that the lane's next record belongs to seq.
func (l *lane) expect(seq uint64) {
	if last := len(l.runs) - 1; last >= l.head && l.runs[last].first+l.runs[last].n == seq {
		l.runs[last].n++
		return
	}
	l.runs = append(l.runs, run{seq, 1})
}

// report takes the next n records off the lane. Those that failed stay pending for ever, so that nothing behind them
// is answered: the connection ends.
func (l *lane) report(q *receipts, n int, failed bool) {
	q.unreported -= n
	for left := uint64(n); left > 0 && l.head < len(l.runs); { //nolint:gosec // G115: a count
		r := &l.runs[l.head]
		k := min(left, r.n)
		if !failed {
			for seq := r.first; seq < r.first+k; seq++ {
				q.at(seq).pending--
			}
		}
		r.first, r.n, left = r.first+k, r.n-k, left-k
		if r.n == 0 {
			l.head++
		}
	}
	switch {
	case l.head == len(l.runs):
		l.runs, l.head = l.runs[:0], 0
	case l.head >= 64 && l.head*2 >= len(l.runs):
		l.runs, l.head = l.runs[:copy(l.runs, l.runs[l.head:])], 0
	}
}

// Done implements bus.Ticket: the next n records of this lane are on disk, or are refused.
func (l *lane) Done(n int, err error) {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	l.report(&c.receipts, n, err != nil)
	if err != nil {
		c.edge.count.Fail(n)
		c.endLocked(endOfLog(err))
	}
	c.settleLocked()
}

// settleLocked answers what can be answered.
func (c *conn) settleLocked() {
	var oldest int64
	for {
		r, ok := c.receipts.next()
		if !ok {
			break
		}
		if oldest == 0 {
			oldest = r.at
		}
		switch r.kind {
		case mqtt.TypePuback:
			c.out = mqtt.AppendPuback(c.out, c.version, r.id, r.reason)
		case mqtt.TypePubrec:
			c.out = mqtt.AppendPubrec(c.out, c.version, r.id, r.reason)
		case mqtt.TypePubcomp:
			c.out = mqtt.AppendPubcomp(c.out, c.version, r.id, r.reason)
		default:
		}
	}
	if oldest != 0 {
		c.edge.count.Latency.Observe(float64(c.edge.now().UnixNano()-oldest) / 1e9)
		c.flushLocked()
	}
	if c.waiting > 0 {
		c.changed.Broadcast()
	}
}
