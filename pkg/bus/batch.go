package bus

// batch is what one append takes, and whom to tell.
type batch struct {
	recs    []Record // the values lie in arena, in an earlier, smaller array of it, or where their flow has kept them
	arena   []byte
	bytes   int      // of the values
	owners  []uint32 // for each record the index of its ticket
	tickets []claimed
	index   map[claimant]uint32
}

// claimant is a ticket with its flow.
type claimant struct {
	ticket Ticket
	flow   uint64
}

// claimed is a ticket, how many of the batch's records are its, and what room they take.
type claimed struct {
	claimant
	n     int
	bytes int64
}

// full reports whether a value of size bytes has to go with another append.
func (b *batch) full(size int, cfg *WriterConfig) bool {
	n := len(b.recs)
	return n > 0 && (n >= cfg.BatchRecordsMax || b.bytes+size > cfg.BatchBytesMax)
}

// add takes a record whose value it copies.
func (b *batch) add(r *Record, who claimant) {
	at := len(b.arena)
	b.arena = append(b.arena, r.Value...)
	b.keep(Record{Origin: r.Origin, Value: b.arena[at:len(b.arena):len(b.arena)]}, who)
}

// keep takes a record whose value stays as it is.
func (b *batch) keep(r Record, who claimant) {
	b.recs = append(b.recs, r)
	b.bytes += len(r.Value)
	i := b.claim(who)
	b.tickets[i].n++
	b.tickets[i].bytes += int64(len(r.Value) + recordOverheadBytes)
	b.owners = append(b.owners, i)
}

// claim returns the index of a ticket. A sender submits in runs, so the newest one is looked at first.
func (b *batch) claim(who claimant) uint32 {
	last := len(b.tickets) - 1
	if last >= 0 && b.tickets[last].claimant == who {
		return uint32(last) //nolint:gosec // a batch is far smaller than 2^32
	}
	if i, ok := b.index[who]; ok {
		return i
	}
	if b.index == nil {
		b.index = map[claimant]uint32{}
	}
	i := uint32(last + 1) //nolint:gosec // as above
	b.index[who] = i
	b.tickets = append(b.tickets, claimed{claimant: who})
	return i
}

func (b *batch) reset() {
	clear(b.recs) // lets go of outgrown arenas
	clear(b.tickets)
	clear(b.index)
	b.recs, b.arena, b.bytes, b.owners, b.tickets = b.recs[:0], b.arena[:0], 0, b.owners[:0], b.tickets[:0]
}
