package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
)

// fillerHeader is of a message that holds no record: it stands where positions were given that must not be given again. Its value is
// the sequence of the newest record before it.
const fillerHeader = "Millrace-Fills-After"

const fillsAtOnce = 256 // fillers under way

// Witness is what somebody who has read a partition knows of it: how far it reached.
type Witness struct {
	Group     string
	Partition bus.PartitionID
	Progress  bus.Progress
}

// Loss is a run of a partition that was acknowledged and that the log has no longer, though nothing trimmed it.
type Loss struct {
	Partition     bus.PartitionID
	From, Through uint64 // sequences, inclusive
	// Unread says from which sequence on each group had not read it; a group that is not here had read it all.
	Unread map[string]uint64
	// Tail says that no record comes after it, and Before is then the highest origin of what comes before it, by partition of Ingested.
	Tail   bool
	Before bus.Origins
}

// String says it to people.
func (l Loss) String() string {
	text := fmt.Sprintf("the log has lost %v from sequence %d through %d", l.Partition, l.From, l.Through)
	if len(l.Unread) == 0 {
		return text + "; every worker had read it"
	}
	var unread []string
	for _, group := range slices.Sorted(maps.Keys(l.Unread)) {
		unread = append(unread, fmt.Sprintf("%s from %d on", group, l.Unread[group]))
	}
	return text + "; unread by " + strings.Join(unread, ", ")
}

// Mend looks for what the server has lost of the log: blocks that were cut, damaged or removed, which it drops with a line in its own
// log at most. Each loss is returned once. And it makes sure that no position is given twice: a reader takes a record
// whose origin it has seen for a double, so what is appended next must come after everything that anybody has seen. Witnesses are the file
// of ends, what groups have committed, what derived topics hold, and those of the caller, such as the progress of its
// stores. It is to be called before anybody appends or reads, on a log of Config.Ends.
func (l *Log) Mend(ctx context.Context, witnesses []Witness) ([]Loss, error) {
	if l.ends == nil {
		return nil, errors.New("mend the log: Config.Ends: empty")
	}
	committed, err := l.committedByAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("mend the log: %w", err)
	}
	witnesses = slices.Concat(witnesses, committed)
	tails, err := l.tails(ctx)
	if err != nil {
		return nil, fmt.Errorf("mend the log: %w", err)
	}
	floors := l.floors(witnesses, tails)
	var losses []Loss
	for _, id := range l.ids() {
		found, err := l.mendPartition(ctx, l.parts[id], floors[id], tails[id], witnesses)
		if err != nil {
			return losses, fmt.Errorf("mend %v: %w", id, err)
		}
		losses = append(losses, found...)
	}
	return losses, nil
}

// Damage returns why the file of ends could not be read; nil where it could.
func (l *Log) Damage() error {
	if l.ends == nil {
		return nil
	}
	return l.ends.fault
}

// Rewind sets a group back, so that it reads again what comes after progress. Nobody may be in the group. Nothing happens where the group
// is not further, or never committed.
func (l *Log) Rewind(ctx context.Context, group string, id bus.PartitionID, progress bus.Progress) error {
	c := commit{key: commitKey(group, id)}
	have, err := c.get(ctx, l)
	if err == nil && have.Through.Compare(progress.Through) > 0 {
		_, err = c.write(ctx, l, progress)
	}
	if err != nil {
		return fmt.Errorf("set %s back on %v: %w", group, id, err)
	}
	return nil
}

func (l *Log) ids() []bus.PartitionID {
	return slices.SortedFunc(maps.Keys(l.parts), func(a, b bus.PartitionID) int { return strings.Compare(a.String(), b.String()) })
}

// committedByAll returns what every group has committed.
func (l *Log) committedByAll(ctx context.Context) ([]Witness, error) {
	keys, err := l.positionKeys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, fmt.Errorf("list the groups: %w", err)
	}
	var all []Witness
	for _, key := range keys {
		id, ok := l.partitionOfKey(key)
		if !ok {
			continue
		}
		c := commit{key: key}
		progress, err := c.get(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("read the commit %s: %w", key, err)
		}
		group, _, _ := strings.Cut(key, ".")
		all = append(all, Witness{Group: group, Partition: id, Progress: progress})
	}
	return all, nil
}

// tail is the newest message of a stream.
type tail struct {
	state jetstream.StreamState
	real  uint64      // sequence of the newest record's message; 0 where there is none
	seen  bus.Origins // highest origins of its records
	gone  bool        // the message of the last sequence is not there
}

func (l *Log) tails(ctx context.Context) (map[bus.PartitionID]tail, error) {
	all := make(map[bus.PartitionID]tail, len(l.parts))
	for id, p := range l.parts {
		t, err := l.tail(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("look at the end of %v: %w", id, err)
		}
		all[id] = t
	}
	return all, nil
}

func (l *Log) tail(ctx context.Context, p *partition) (t tail, err error) {
	bounded, cause, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = errors.Join(cause(), err)
		}
	}()
	stream, err := l.js.Stream(bounded, p.stream)
	if err != nil {
		return t, err
	}
	t.state = stream.CachedInfo().State
	if t.state.NumDeleted > 0 && t.state.Msgs > 0 {
		info, err := stream.Info(bounded, jetstream.WithDeletedDetails(true))
		if err != nil {
			return t, err
		}
		t.state = info.State
	}
	if t.state.Msgs == 0 {
		t.gone = t.state.LastSeq > 0
		return t, nil
	}
	msg, err := stream.GetLastMsgForSubject(bounded, p.subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return t, nil // somebody else's messages only
	}
	if err != nil {
		return t, err
	}
	t.real, t.gone = msg.Sequence, msg.Sequence < t.state.LastSeq
	if before, ok := fillerAfter(msg); ok {
		if t.real = before; before == 0 {
			return t, nil
		}
		if msg, err = stream.GetMsg(bounded, before); errors.Is(err, jetstream.ErrMsgNotFound) {
			return t, nil
		} else if err != nil {
			return t, err
		}
	}
	if recs, err := ParseFrame(nil, msg.Data); err == nil {
		for i := range recs {
			t.seen.Take(recs[i].Origin)
		}
	}
	return t, nil
}

// fillerAfter reports whether msg is a filler, and the sequence of the newest record before it.
func fillerAfter(msg *jetstream.RawStreamMsg) (seq uint64, ok bool) {
	if len(msg.Header) == 0 {
		return 0, false
	}
	text := msg.Header.Get(fillerHeader)
	if text == "" {
		return 0, false
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	return seq, err == nil
}

// floors returns, for each partition, the highest sequence that anybody has seen.
func (l *Log) floors(witnesses []Witness, tails map[bus.PartitionID]tail) map[bus.PartitionID]uint64 {
	floors := map[bus.PartitionID]uint64{}
	see := func(origins bus.Origins) {
		for _, o := range origins {
			id := bus.PartitionID{Topic: bus.Ingested, Number: int(o.Partition)}
			floors[id] = max(floors[id], o.Seq)
		}
	}
	for _, w := range witnesses {
		floors[w.Partition] = max(floors[w.Partition], w.Progress.Through.Seq)
		see(w.Progress.Origins)
	}
	for id, t := range tails {
		if id.Topic != bus.Ingested {
			see(t.seen)
		}
	}
	return floors
}

// mendPartition finds what p has lost and lifts its end.
func (l *Log) mendPartition(ctx context.Context, p *partition, floor uint64, t tail, witnesses []Witness) ([]Loss, error) {
	known, remembered := l.ends.known(p.stream)
	floor = max(floor, known.Last)
	if !remembered { // the first start, or the file is gone: what was trimmed on purpose nobody knows
		known.First = max(1, t.state.FirstSeq)
		if t.state.LastSeq == 0 {
			known.First = 1
		}
	}
	runs := missing(t.state, known.First, floor)
	var losses []Loss
	for _, run := range fresh(runs, known.Lost) {
		loss := Loss{Partition: p.id, From: run[0], Through: run[1], Tail: run[0] > t.real}
		if loss.Tail {
			loss.Before = t.seen
		}
		loss.Unread = unread(p.id, run, witnesses, l.cfg.Readers[p.id.Topic])
		losses = append(losses, loss)
	}
	end := t.state.LastSeq
	if floor > end || t.gone && len(losses) > 0 {
		var err error
		if end, err = l.lift(ctx, p, t, max(floor, end)); err != nil {
			return nil, err
		}
	}
	p.acked.Store(end)
	return losses, l.ends.change(func(all map[string]knownStream) bool {
		now := knownStream{First: known.First, Last: end, Lost: runs}
		if old, ok := all[p.stream]; ok && old.First == now.First && old.Last == now.Last && slices.Equal(old.Lost, now.Lost) {
			return false
		}
		all[p.stream] = now
		return true
	})
}

// unread returns from where on each group had not read a run. Of what a group committed and what its store has, the further one counts.
// One of readers that nobody has heard of has read nothing.
func unread(id bus.PartitionID, run seqRun, witnesses []Witness, readers []string) map[string]uint64 {
	read := map[string]uint64{}
	for _, group := range readers {
		read[keyToken(group)] = 0
	}
	for _, w := range witnesses {
		if w.Partition == id && !strings.HasPrefix(w.Group, keyToken(bus.OnlookerPrefix)) {
			read[w.Group] = max(read[w.Group], w.Progress.Through.Seq)
		}
	}
	from := map[string]uint64{}
	for group, through := range read {
		if through < run[1] {
			from[group] = max(run[0], through+1)
		}
	}
	return from
}

// missing returns the runs of first through last that are not in a stream, in order.
func missing(state jetstream.StreamState, first, last uint64) []seqRun {
	var runs []seqRun
	add := func(from, through uint64) {
		from, through = max(from, first), min(through, last)
		if from > through {
			return
		}
		if n := len(runs); n > 0 && runs[n-1][1]+1 >= from {
			runs[n-1][1] = max(runs[n-1][1], through)
			return
		}
		runs = append(runs, seqRun{from, through})
	}
	if state.Msgs == 0 {
		add(first, last)
		return runs
	}
	add(first, state.FirstSeq-1)
	slices.Sort(state.Deleted)
	for _, seq := range state.Deleted {
		add(seq, seq)
	}
	add(state.LastSeq+1, last)
	return runs
}

// fresh returns what of runs was not told before.
func fresh(runs, told []seqRun) []seqRun {
	return slices.DeleteFunc(slices.Clone(runs), func(r seqRun) bool {
		return slices.ContainsFunc(told, func(t seqRun) bool { return t[0] <= r[0] && r[1] <= t[1] })
	})
}

// lift makes the next sequence of p come after end, and returns the last sequence then. What the stream still holds stays, so the gap is
// filled with messages that hold nothing; where it holds nothing it simply begins later. The last message is always a filler, which says
// where the newest record is.
func (l *Log) lift(ctx context.Context, p *partition, t tail, end uint64) (uint64, error) {
	at := t.state.LastSeq
	if t.state.Msgs == 0 && end > at+1 {
		stream, err := l.js.Stream(ctx, p.stream)
		if err != nil {
			return 0, err
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSequence(end)); err != nil {
			return 0, fmt.Errorf("begin at %d: %w", end, err)
		}
		at = end - 1
	}
	fill := max(end, at+1)
	if fill-at > fillsAtOnce {
		l.cfg.Log.Warn("filling positions that were given and are lost", "partition", p.id.String(), "from", at+1, "through", fill)
	}
	nothing, after := AppendFrame(nil, nil), []string{strconv.FormatUint(t.real, 10)}
	for at < fill {
		n := min(fill-at, fillsAtOnce)
		acks := make([]jetstream.PubAckFuture, n)
		for i := range acks {
			var err error
			if acks[i], err = l.js.PublishMsgAsync(&nats.Msg{Subject: p.subject, Data: nothing, Header: nats.Header{fillerHeader: after}}); err != nil {
				return 0, fmt.Errorf("fill %d: %w", at+1, err)
			}
		}
		for _, ack := range acks {
			select {
			case ok := <-ack.Ok():
				at = max(at, ok.Sequence)
			case err := <-ack.Err():
				return 0, fmt.Errorf("fill %d: %w", at+1, err)
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
	return at, nil
}

// Committed returns what every group has committed.
func (l *Log) Committed(ctx context.Context) ([]Witness, error) {
	all, err := l.committedByAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("read what groups have committed: %w", err)
	}
	return all, nil
}

// Begins returns the sequence and the time of the oldest message that a partition still has; in an empty one the sequence that comes next,
// and the zero time.
func (l *Log) Begins(ctx context.Context, id bus.PartitionID) (first uint64, at time.Time, err error) {
	p, err := l.partition(id)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("find the beginning of %v: %w", id, err)
	}
	state, err := l.state(ctx, p)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("find the beginning of %v: %w", id, err)
	}
	if state.Msgs == 0 {
		return state.LastSeq + 1, time.Time{}, nil
	}
	return state.FirstSeq, state.FirstTime, nil
}
