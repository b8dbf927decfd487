// Package pipeline is the way of a message from an edge to the log: decoded, stamped, held to its device's rate, encoded, and
// given to the Writer; what is no message becomes a dead letter with its bytes and the reason, on the same terms.
//
// The promise: whatever Take accepted or rejected is submitted by Submit, and its ticket is told when it is on disk. What is
// over a device's rate is not gathered, and the edge says so to its sender.
//
// Both edges call it, each input from one goroutine. Start reading at Batch.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Worker is what dead letters of the edges say who wrote them.
const Worker = "ingest"

// What the messages and dead letters of one input may take in the log together, in bytes: some and a multiple of its body. Each
// message repeats device, type and properties, so that kilobytes could become gigabytes.
const (
	growthFree  = 8 << 20
	growthTimes = 4
)

// pieceBytes is how much of a batch is submitted at once, about.
const pieceBytes = 16 << 10

// arenaKeep is the most memory that a batch keeps for the next one, in bytes.
const arenaKeep = 1 << 20

// errMessageTooLarge is wrapped in the refusal of a message beyond Config.MessageBytesMax.
var errMessageTooLarge = errors.New("the message is too large")

// Config sizes a Pipeline.
type Config struct {
	Tenant          string // "" is telemetry.DefaultTenant
	Decoder         telemetry.Options
	MessageBytesMax int // of one message as the log keeps it; larger is rejected, and its dead letter is cut there
	Rates           Rates
}

// Pipeline is shared by the edges. Safe for concurrent use.
type Pipeline struct {
	cfg      Config
	decoder  *telemetry.Decoder
	writer   *bus.Writer
	limit    *limiter
	seed     maphash.Seed // of flows
	ingested []bus.PartitionID
	letters  []bus.PartitionID
	batches  sync.Pool // of *Batch
}

// New returns a pipeline into writer. What the decoder finds odd is counted by m, and now and then log names the device.
func New(cfg Config, writer *bus.Writer, m *Metrics, log *slog.Logger, now func() time.Time) *Pipeline {
	if cfg.Tenant == "" {
		cfg.Tenant = telemetry.DefaultTenant
	}
	cfg.Decoder.OnCount = (&oddities{log: log, now: now, count: m.odd}).note
	return &Pipeline{
		cfg: cfg, decoder: telemetry.NewDecoder(cfg.Decoder), writer: writer,
		limit: newLimiter(cfg.Rates), seed: maphash.MakeSeed(),
		ingested: partitions(writer, bus.Ingested), letters: partitions(writer, bus.DeadLetters),
	}
}

func partitions(w *bus.Writer, topic string) []bus.PartitionID {
	ids := make([]bus.PartitionID, w.Partitions(topic))
	for i := range ids {
		ids[i] = bus.PartitionID{Topic: topic, Number: i}
	}
	return ids
}

// Lanes returns the number of lanes: one for each partition of the topics ingested and dead-letters. Records of one lane and
// ticket are reported in the order in which they were taken.
func (p *Pipeline) Lanes() int { return len(p.ingested) + len(p.letters) }

func (p *Pipeline) partition(lane int) bus.PartitionID {
	if lane < len(p.ingested) {
		return p.ingested[lane]
	}
	return p.letters[lane-len(p.ingested)]
}

// Session appends a record of KindSession, which is not waited for: of a connection that began or ended.
func (p *Pipeline) Session(ctx context.Context, m *telemetry.Message, t bus.Ticket) error {
	m.Tenant, m.Kind = p.cfg.Tenant, telemetry.KindSession
	n := bus.PartitionOf(m.Tenant, m.DeviceID, p.writer.Partitions(bus.Sessions))
	id := bus.PartitionID{Topic: bus.Sessions, Number: n}
	return p.writer.Submit(ctx, id, telemetry.AppendMessage(nil, m), bus.Origin{}, t)
}

// Over returns which quota a device is over, and for how long: who asks first spares itself the reading of what is refused.
func (p *Pipeline) Over(device string, at telemetry.Time) (wait time.Duration, over Quota) {
	return p.limit.over(device, int64(at))
}

// Flow returns what tells a sender's records from those of others in the Writer: its name is a credential, a device or whatever
// else it is held to. It is never 0.
func (p *Pipeline) Flow(name string) uint64 { return maphash.String(p.seed, name) | 1 }

// Batch returns an empty batch for one protocol's inputs. The caller gives it back with Release.
func (p *Pipeline) Batch(c *Counters) *Batch {
	b, ok := p.batches.Get().(*Batch)
	if !ok {
		b = &Batch{p: p, lanes: make([]gathered, p.Lanes())}
	}
	b.count = c
	return b
}

// Outcome is what became of one input.
type Outcome struct {
	Accepted int                  // records of which at least one message was taken
	Messages int                  // that were taken
	Rejected []telemetry.Rejected // records; aliases the body; each is a dead letter
	// Wait is how long the sender should pause: its device is over its rate. Over says that for this reason nothing of the
	// input was gathered, not even what is malformed.
	Wait  time.Duration
	Over  bool
	Quota Quota
}

// Gathered returns how many messages and dead letters were gathered for the input.
func (o *Outcome) Gathered() int { return o.Messages + len(o.Rejected) }

// Batch gathers the records of some inputs and submits them together. One goroutine. Bodies must stay as they are until the
// input was taken, no longer.
type Batch struct {
	p     *Pipeline
	count *Counters
	msgs  []telemetry.Message
	arena []byte
	lanes []gathered
	used  []int

	inputs   uint32
	size     int
	accepted int
	bytes    int
}

// gathered are the records of one lane and, beside each, the input that it stems from.
type gathered struct {
	recs   []bus.Record
	owners []uint32
}

// Inputs returns how many inputs were added: the number that the next one has.
func (b *Batch) Inputs() uint32 { return b.inputs }

// Bytes returns the size of what was gathered.
func (b *Batch) Bytes() int { return b.size }

// Refuse gives a number to an input of which nothing is gathered since its device is over a quota, and counts its messages.
func (b *Batch) Refuse(q Quota, messages int) {
	b.count.refuse(q, max(messages, 1))
	b.inputs++
}

// Skip gives a number to an input of which nothing is gathered.
func (b *Batch) Skip() { b.inputs++ }

// Take decodes one input and gathers its messages and dead letters. Where the device is over its rate it does so only if forced.
func (b *Batch) Take(in *telemetry.Input, forced bool) Outcome {
	var out Outcome
	p := b.p
	in.Tenant = p.cfg.Tenant
	msgs, rejected := p.decoder.Decode(b.msgs[:0], *in)
	b.msgs = msgs
	b.bytes += len(in.Body)
	out.Wait, out.Quota = b.charge(in, len(rejected), forced)
	if out.Over = out.Quota != QuotaNone && !forced; out.Over {
		b.Refuse(out.Quota, len(msgs))
		return out
	}
	if out.Quota != QuotaNone {
		b.count.paused[out.Quota].Inc()
	}
	out.Rejected = rejected
	b.messages(in, msgs, &out)
	for i := range out.Rejected {
		r := &out.Rejected[i]
		b.count.Refuse(reasonOf(r.Err), 1)
		b.letter(in, r.Payload, r.Err.Error())
	}
	b.accepted += out.Messages
	b.inputs++
	return out
}

// messages gathers msgs as far as there is room for them; those that find none are rejected.
func (b *Batch) messages(in *telemetry.Input, msgs []telemetry.Message, out *Outcome) {
	letters, newest := 0, -1
	room := growthFree + growthTimes*len(in.Body)
	for i, start := 0, len(b.arena); i < len(msgs); i++ {
		m := &msgs[i]
		if len(b.arena)-start+letters > room {
			err := fmt.Errorf("%d messages: those before them take %d bytes together, which is all that one body may: %w",
				len(msgs)-i, room, errMessageTooLarge)
			out.Rejected = append(out.Rejected, telemetry.Rejected{Index: m.Record, Payload: in.Body, Err: err})
			return
		}
		if err := b.message(m); err != nil {
			out.Rejected = append(out.Rejected, telemetry.Rejected{Index: m.Record, Payload: in.Body, Err: err})
			letters += min(len(in.Body), b.p.cfg.MessageBytesMax)
			continue
		}
		out.Messages++
		if m.Record != newest {
			out.Accepted, newest = out.Accepted+1, m.Record
		}
	}
}

// Letter gathers a dead letter for an input that never gets as far as the decoder. wait is as in Outcome.
func (b *Batch) Letter(in *telemetry.Input, reason string) (wait time.Duration) {
	in.Tenant = b.p.cfg.Tenant
	b.bytes += len(in.Body)
	b.letter(in, in.Body, reason)
	b.inputs++
	wait, over := b.p.limit.charge(senderOf(in), 1, int64(len(in.Body)), int64(in.IngestTime), true)
	if over != QuotaNone {
		b.count.paused[over].Inc()
	}
	return wait
}

// senderOf is who pays for what is no message: the device of the topic or path, else the credential, by a name no device has.
func senderOf(in *telemetry.Input) string {
	if in.DeviceID != "" {
		return in.DeviceID
	}
	return "/" + in.Credential
}

// charge counts the messages of each device; what was rejected counts for senderOf. The bytes of a body whose topic or path names a device are
// that device's; of any other body each device has as many parts as it has messages in it.
func (b *Batch) charge(in *telemetry.Input, rejected int, forced bool) (wait time.Duration, over Quota) {
	limit := b.p.limit
	if limit == nil {
		return 0, QuotaNone
	}
	now, payer := int64(in.IngestTime), senderOf(in)
	body, all := int64(len(in.Body)), int64(len(b.msgs)+rejected)
	named := in.DeviceID != "" || all == 0 // one pays for all bytes
	bytes := func(name string, messages int64) (share int64) {
		if !named {
			return body * messages / all
		}
		if name == payer {
			share, body = body, 0
		}
		return share
	}
	more := func(name string, messages int64) bool {
		w, o := limit.charge(name, messages, bytes(name, messages), now, forced)
		if wait = max(wait, w); o != QuotaNone {
			over = o
		}
		return o == QuotaNone || forced
	}
	for i := 0; i < len(b.msgs); {
		n := i + 1
		for n < len(b.msgs) && b.msgs[n].DeviceID == b.msgs[i].DeviceID {
			n++
		}
		if !more(b.msgs[i].DeviceID, int64(n-i)) {
			return wait, over
		}
		i = n
	}
	if rejected > 0 || named && body > 0 {
		more(payer, int64(rejected))
	}
	return wait, over
}

func (b *Batch) message(m *telemetry.Message) error {
	at := len(b.arena)
	b.arena = telemetry.AppendMessage(b.arena, m)
	if n := len(b.arena) - at; n > b.p.cfg.MessageBytesMax {
		b.arena = b.arena[:at]
		return fmt.Errorf("%d bytes as the log keeps it, want at most %d: %w", n, b.p.cfg.MessageBytesMax, errMessageTooLarge)
	}
	b.gather(bus.PartitionOf(m.Tenant, m.DeviceID, len(b.p.ingested)), at)
	return nil
}

func (b *Batch) letter(in *telemetry.Input, payload []byte, reason string) {
	if most := b.p.cfg.MessageBytesMax; len(payload) > most {
		reason = fmt.Sprintf("%s (of %d bytes the first %d are kept)", reason, len(payload), most)
		payload = payload[:most]
	}
	at := len(b.arena)
	b.arena = telemetry.AppendDeadLetter(b.arena, &telemetry.DeadLetter{
		Topic: in.Source, Worker: Worker, Reason: reason, Payload: payload, ReceivedAt: in.IngestTime,
		Tenant: in.Tenant, DeviceID: in.DeviceID, Credential: in.Credential, Context: contextOf(in),
	})
	n := len(b.p.ingested)
	b.gather(n+bus.PartitionOf(in.Tenant, in.DeviceID, len(b.p.letters)), at)
}

// gather adds what was appended to the arena since at. A value stays where it is when the arena moves.
func (b *Batch) gather(lane, at int) {
	g := &b.lanes[lane]
	if len(g.recs) == 0 {
		b.used = append(b.used, lane)
	}
	value := b.arena[at:len(b.arena):len(b.arena)]
	g.recs = append(g.recs, bus.Record{Value: value})
	g.owners = append(g.owners, b.inputs)
	b.size += len(value)
}

// Used returns the lanes that have records, valid until Submit.
func (b *Batch) Used() []int { return b.used }

// Owners returns for each record of a lane, in order, the number of the input that it stems from, valid until Submit.
func (b *Batch) Owners(lane int) []uint32 { return b.lanes[lane].owners }

// Discard empties the batch and returns how many records it had: their sender is not answered, and sends them again.
func (b *Batch) Discard() (records int) {
	for _, lane := range b.used {
		g := &b.lanes[lane]
		records += len(g.recs)
		clear(g.recs)
		g.recs, g.owners = g.recs[:0], g.owners[:0]
	}
	b.accepted = 0
	b.reset()
	return records
}

// Submit gives everything to the Writer and empties the batch. Each record's outcome comes to its lane's ticket, also where
// the Writer does not take it. It waits while the Writer has no more room for the flow, until ctx ends. A ticket has the same flow
// always.
func (b *Batch) Submit(ctx context.Context, flow uint64, ticket func(lane int) bus.Ticket) {
	for _, lane := range b.used {
		g := &b.lanes[lane]
		b.submit(ctx, b.p.partition(lane), flow, g.recs, ticket(lane))
		clear(g.recs)
		g.recs, g.owners = g.recs[:0], g.owners[:0]
	}
	b.reset()
}

// reset counts what was taken and empties the batch.
func (b *Batch) reset() {
	b.count.accepted.Add(float64(b.accepted))
	b.count.bytes.Add(float64(b.bytes))
	b.used, b.inputs, b.size, b.accepted, b.bytes = b.used[:0], 0, 0, 0, 0
	b.arena = b.arena[:0]
}

// submit gives a lane's records to the Writer piece by piece, so that a large body waits for little room at a time.
func (b *Batch) submit(ctx context.Context, id bus.PartitionID, flow uint64, recs []bus.Record, t bus.Ticket) {
	for len(recs) > 0 {
		n, size := 1, len(recs[0].Value)
		for n < len(recs) && size < pieceBytes {
			size += len(recs[n].Value)
			n++
		}
		if err := b.p.writer.SubmitFlow(ctx, id, flow, recs[:n], t); err != nil {
			t.Done(len(recs), err)
			return
		}
		recs = recs[n:]
	}
}

// Release gives back a batch that is empty since Submit.
func (b *Batch) Release() {
	clear(b.msgs)
	b.msgs = b.msgs[:0]
	if cap(b.arena) <= arenaKeep {
		b.p.batches.Put(b)
	}
}
