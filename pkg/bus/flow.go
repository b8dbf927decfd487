package bus

// turnBytesMin is the least that a flow may add to an append when its turn comes, in bytes.
const turnBytesMin = 1 << 10

// flow is what one sender has submitted to a partition and what found no room in the next append.
type flow struct {
	key    uint64
	recs   []waitingRecord // in order, from next on
	next   int
	credit int // bytes that it may still add in this turn; what it took beyond it counts against its next one
}

type waitingRecord struct {
	Record
	who claimant
}

// add copies recs to the end.
func (f *flow) add(recs []Record, who claimant) {
	size := 0
	for i := range recs {
		size += len(recs[i].Value)
	}
	values := make([]byte, 0, size)
	if f.next > 0 && len(f.recs)+len(recs) > cap(f.recs) { // rather than grow
		kept := copy(f.recs, f.recs[f.next:])
		clear(f.recs[kept:])
		f.recs, f.next = f.recs[:kept], 0
	}
	for i := range recs {
		at := len(values)
		values = append(values, recs[i].Value...)
		f.recs = append(f.recs, waitingRecord{Record{Origin: recs[i].Origin, Value: values[at:len(values):len(values)]}, who})
	}
}

// refill fills the gathering batch from the flows that wait, turn by turn (deficit round robin, RFC 8290 section 4): a turn is
// as long as gives every flow one in each append, where that is possible. l.mu is held.
func (l *lane) refill() {
	b, cfg := l.gathering, &l.w.cfg
	for len(l.turns) > 0 {
		f := l.turns[0]
		if f.credit <= 0 {
			f.credit += max(cfg.BatchBytesMax/len(l.turns), turnBytesMin)
		}
		for f.credit > 0 && f.next < len(f.recs) {
			r := &f.recs[f.next]
			if b.full(len(r.Value), cfg) {
				return // it goes first with the next append
			}
			b.keep(r.Record, r.who)
			f.credit -= len(r.Value) + recordOverheadBytes
			*r = waitingRecord{}
			f.next++
		}
		l.turns[0] = nil
		l.turns = l.turns[1:]
		if f.next == len(f.recs) {
			delete(l.flows, f.key)
		} else {
			l.turns = append(l.turns, f)
		}
	}
	l.turns = nil // a burst is over
}
