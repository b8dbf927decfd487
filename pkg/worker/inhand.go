package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
)

// deathsMax is how many times a process must have died with the same record in hand before that is a dead letter. It is more than for a
// panic, since whatever the other shares had in hand just then comes under suspicion too.
const deathsMax = 3

// inHand is what a share has in hand, in a page of memory that outlives the process: a file that is mapped, and never synced. So it
// costs a few stores a record, and is there after whatever ends a process but the machine's own end. The nil inHand keeps nothing.
type inHand struct {
	page  []byte
	file  string
	close func() error
	lost  bool // a life that was given up may still touch the page
}

// What the page holds, each a number of eight bytes.
const (
	slotMagic    = iota * 8
	slotState    // see the states
	slotTopic    // index into the loop's topics
	slotSeq      // of the record
	slotIndex    // likewise
	slotGathered // records of the commit that is under way
	slotLimit    // care's
	slotSuspectTopic
	slotSuspectSeq
	slotSuspectIndex
	slotDeaths // with that suspect in hand
	pageBytes  // of all this
)

const (
	pageMagic = 0x31_444e_4148_4e49 // says that the page is one, of this form

	stateIdle   = 0
	stateAdd    = 1 // the task has the record
	stateCommit = 2 // what was gathered is being completed, made a state of, or written; the record is the newest of it
)

func (h *inHand) get(slot int) uint64    { return binary.LittleEndian.Uint64(h.page[slot:]) }
func (h *inHand) put(slot int, v uint64) { binary.LittleEndian.PutUint64(h.page[slot:], v) }

// takes notes that the task is given a record.
func (h *inHand) takes(topic int, at bus.Position) {
	if h == nil {
		return
	}
	h.put(slotTopic, uint64(topic)) //nolint:gosec // an index
	h.put(slotSeq, at.Seq)
	h.put(slotIndex, uint64(at.Index))
	h.put(slotState, stateAdd)
}

// commits notes that a step of a commit begins.
func (h *inHand) commits(gathered int) {
	if h == nil || gathered == 0 {
		return
	}
	h.put(slotGathered, uint64(gathered)) //nolint:gosec // a count
	h.put(slotState, stateCommit)
}

// rests notes that the share has nothing in hand that could end the process.
func (h *inHand) rests() {
	if h != nil {
		h.put(slotState, stateIdle)
	}
}

// openInHand opens the page of a share, and returns how an earlier process died with something in hand; nil where none did. It also sets
// what that process had learned.
func (l *Loop[Row]) openInHand(share int, c *care) (h *inHand, was *failed, err error) {
	if l.Metrics.inHandDir == "" {
		return nil, nil, nil
	}
	file := filepath.Join(l.Metrics.inHandDir, fmt.Sprintf("%s-%d", l.Worker, share))
	if h, err = mapInHand(file); err != nil || h == nil {
		return nil, nil, err
	}
	if h.get(slotMagic) != pageMagic {
		clear(h.page)
		h.put(slotMagic, pageMagic)
		return h, nil, nil
	}
	c.limit = int(min(h.get(slotLimit), uint64(l.BatchRecords))) //nolint:gosec // bounded
	topics, topic := l.topics(), int(min(h.get(slotTopic), 1<<16))
	state := h.get(slotState)
	h.rests()
	if state == stateIdle || topic >= len(topics) {
		return h, nil, nil
	}
	at := place{bus.PartitionID{Topic: topics[topic], Number: share}, bus.Position{Seq: h.get(slotSeq), Index: uint32(h.get(slotIndex))}} //nolint:gosec // as it was put
	was = &failed{how: died, at: at, value: "it was killed, ran out of memory, or ended without a panic"}
	if state == stateCommit {
		was.taken = int(min(h.get(slotGathered), 1<<30))
	}
	return h, was, nil
}

// deaths returns how often processes have died with the record in hand, this time included.
func (h *inHand) deaths(l []string, f *failed) int {
	topic := uint64(max(slices.Index(l, f.at.id.Topic), 0))
	n := uint64(1)
	if h.get(slotSuspectTopic) == topic && h.get(slotSuspectSeq) == f.at.position.Seq && h.get(slotSuspectIndex) == uint64(f.at.position.Index) {
		n = h.get(slotDeaths) + 1
	}
	h.put(slotSuspectTopic, topic)
	h.put(slotSuspectSeq, f.at.position.Seq)
	h.put(slotSuspectIndex, uint64(f.at.position.Index))
	h.put(slotDeaths, n)
	return int(min(n, 1<<30))
}

// recall finds out what an earlier process died of, as far as this share may have had a part in it.
func (l *Loop[Row]) recall(share int, c *care) (h *inHand, was *failed, times int, err error) {
	h, was, err = l.openInHand(share, c)
	if err != nil || was == nil {
		return h, nil, 0, err
	}
	if was.taken > 1 {
		return h, was, c.learn(was), nil
	}
	times = h.deaths(l.topics(), was)
	enough := deathsMax
	if was.inCommit() {
		c.limit, enough = 1, commitFailuresMax
	}
	c.suspects[was.at] = &suspect{times: times, reason: was.reason(times), poison: times >= enough}
	return h, was, times, nil
}

// keeps writes down how careful the next process has to be.
func (h *inHand) keeps(limit int) {
	if h != nil {
		h.put(slotLimit, uint64(max(limit, 0)))
	}
}

// end forgets the page: the share is given up, and nobody died.
func (h *inHand) end() error {
	if h == nil {
		return nil
	}
	err := os.Remove(h.file) // while the lock holds, so that nobody takes a page that is about to go
	if !h.lost {
		err = errors.Join(err, h.close())
	}
	return err
}
