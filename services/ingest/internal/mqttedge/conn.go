package mqttedge

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest/internal/permit"
	"github.com/millrace/millrace/services/ingest/internal/pipeline"
)

const (
	submitBytes  = 64 << 10 // gathered at most before it is submitted, though more has been read
	submitInputs = 1024
	largeBytes   = 4 * submitBytes // of a batch that counts as memory: one body may become much more than it was
	submitLittle = 4 << 10         // gathered at most while many connections wait for the log with what they hold
	blockedMany  = 256
	outBytesMax  = 256 << 10       // waiting to be written; beyond it nothing more is read
	outKeep      = 64 << 10        // of a write buffer that is used again
	packetsMax   = 1 << 16         // in flight: all identifiers there are, and QoS 0
	pauseMax     = 5 * time.Second // of a sender that is over its rate
	refusedMax   = 100             // messages in a row over a quota, after which a sender that was told so is paused as well
)

// conn is one connection. Its goroutine reads; whoever has something to write appends to out.
type conn struct {
	edge     *Edge
	socket   net.Conn
	source   source
	reader   *mqtt.Reader
	version  mqtt.Version
	clientID string
	sender   atomic.Pointer[permit.Sender] // a new one when its credential has changed
	session  *session
	gone     chan struct{} // closed when the session is let go
	place    place         // at the door
	counted  string        // device for which door counts the connection
	addr     string        // from which it comes, whose share of the memory it takes
	held     int64         // of that memory

	// Of the reading goroutine alone.
	device   string // for which the connection stands; "" until it is known
	will     *will
	routes   routes
	aliases  []*route // by topic alias - 1
	message  mqtt.Publish
	input    telemetry.Input
	props    []telemetry.Property
	typeText string // the last content type
	batch    *pipeline.Batch
	pending  []receipt // of the batch's inputs, in order
	now      telemetry.Time
	flow     uint64 // of all its records; 0 until the first is submitted
	pause    time.Duration
	refused  int            // messages in a row, over a quota
	pumps    sync.WaitGroup // of subscriptions

	ending  atomic.Pointer[ending] // why it is to end; the first reason stays
	stopped chan struct{}          // closed with ending

	mu       sync.Mutex
	changed  *sync.Cond // for whoever counts in waiting
	waiting  int
	receipts receipts
	lanes    []*lane
	out      []byte // not yet handed to the socket
	spare    []byte
	flushing bool
	dead     bool // nothing more is written
}

func newConn(e *Edge, socket net.Conn) *conn {
	c := &conn{edge: e, socket: socket, gone: make(chan struct{}), stopped: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	c.source.conn = c
	c.reader = mqtt.NewReader(&c.source, e.cfg.ReadBufferBytes)
	c.addr = "address/" + addressOf(socket.RemoteAddr()).String()
	c.reader.SetResize(func(more int) error { return c.hold(int64(more)) })
	c.input.MayActFor = func(device string) bool { return c.sender.Load().MayActFor(c.input.DeviceID, device) }
	return c
}

func (c *conn) version5() bool { return c.version == mqtt.Version5 }

// serve runs the connection to its end. hard ends when nothing more is waited for.
func (c *conn) serve(hard context.Context) {
	defer func() { _ = c.socket.Close() }() // closing twice does no harm
	defer func() {
		if c.counted != "" {
			c.edge.door.leaveDevice(c.counted)
		}
		c.edge.memory.Give(c.addr, c.held)
	}()
	if !c.handshake(hard) {
		c.kill()
		return
	}
	c.edge.door.known(c)
	life, cancel := context.WithCancel(hard) // of the subscriptions
	if device := c.sender.Load().Device(); device != "" {
		c.bind(hard, device)
	}
	c.resume(life)
	c.read(hard, life)
	cancel()
	c.finish(hard)
}

// end makes the connection end; only the first reason counts. Safe for concurrent use; it does not wait.
func (c *conn) end(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(e)
}

func (c *conn) endLocked(e ending) {
	if !c.ending.CompareAndSwap(nil, &e) {
		return
	}
	close(c.stopped)
	_ = c.socket.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; see source.Read for one that is about to read
	c.changed.Broadcast()
}

// read takes packets until the connection is to end.
func (c *conn) read(hard, life context.Context) {
	for c.ending.Load() == nil {
		p, err := c.reader.Next()
		if err != nil {
			c.edge.metrics.fault(err)
			c.end(endOfRead(err, c.reader.Unread() > 0))
			break
		}
		c.source.moved = true
		if err := c.take(hard, life, p); err != nil {
			c.edge.metrics.fault(err)
			c.end(endOfRead(err, false))
			break
		}
		if c.reader.Buffered() && c.pause <= 0 && len(c.pending) < submitInputs && (c.batch == nil || c.batch.Bytes() < c.edge.gatherMost()) {
			continue
		}
		c.submit(hard)
		c.now = 0
		c.awaitRoom()
		c.rest()
	}
	c.submit(hard)
}

// gatherMost is how much a connection gathers before it submits.
func (e *Edge) gatherMost() int {
	if e.blocked.Load() > blockedMany {
		return submitLittle
	}
	return submitBytes
}

// hold takes n more bytes of the memory for bodies; less than 0 gives back.
func (c *conn) hold(n int64) error {
	if n > 0 {
		if err := c.edge.memory.Take(c.addr, n); err != nil {
			return err
		}
	} else {
		c.edge.memory.Give(c.addr, -n)
	}
	c.held += n
	return nil
}

// submit gives what was gathered to the log, having noted what is to be answered when.
func (c *conn) submit(ctx context.Context) {
	if c.batch == nil {
		return
	}
	if large := int64(c.batch.Bytes()); large > largeBytes {
		if err := c.hold(large); err != nil {
			c.abandon(err)
			return
		}
		defer func() { _ = c.hold(-large) }() // giving back is never refused
	}
	c.mu.Lock()
	base := c.receipts.tail
	for i := range c.pending {
		c.receipts.add(&c.pending[i])
	}
	for _, n := range c.batch.Used() {
		l, owners := c.lane(n), c.batch.Owners(n)
		for _, owner := range owners {
			l.expect(base + uint64(owner))
		}
		c.receipts.unreported += len(owners)
	}
	c.settleLocked() // what needs no record may be next
	c.mu.Unlock()
	if c.flow == 0 {
		c.flow = c.edge.pipeline.Flow(c.sharer())
	}
	c.edge.blocked.Add(1)
	c.batch.Submit(ctx, c.flow, c.ticket)
	c.edge.blocked.Add(-1)
	c.batch.Release()
	c.batch, c.pending = nil, c.pending[:0]
}

// abandon ends the connection without an answer to what was gathered: it comes again.
func (c *conn) abandon(err error) {
	for i := range c.pending {
		if r := &c.pending[i]; r.kind == mqtt.TypePubrec && r.pending > 0 {
			c.session.received.remove(r.id)
		}
	}
	c.edge.count.Fail(c.batch.Discard())
	c.batch.Release()
	c.batch, c.pending = nil, c.pending[:0]
	c.end(endOfRead(err, false))
}

// sharer is whose share of the edge the connection takes: the device whose key it has, however many connections that opens; with a
// token, or on an open listener, the device that it speaks for first.
func (c *conn) sharer() string {
	s := c.sender.Load()
	switch {
	case s.Device() != "":
		return "key/" + s.Device()
	case c.device != "":
		return s.Credential() + "/device/" + c.device
	default:
		return s.Credential() + "/client/" + c.clientID
	}
}

func (c *conn) lane(n int) *lane {
	if c.lanes == nil {
		c.lanes = make([]*lane, c.edge.pipeline.Lanes())
	}
	if c.lanes[n] == nil {
		c.lanes[n] = &lane{conn: c}
	}
	return c.lanes[n]
}

// ticket is called by the reading goroutine for lanes that submit has made.
func (c *conn) ticket(n int) bus.Ticket { return c.lanes[n] }

// awaitRoom waits while too much is in flight: the device feels it, since nothing is read.
func (c *conn) awaitRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.receipts
	for c.ending.Load() == nil &&
		(q.bytes > c.edge.cfg.InflightBytesMax || q.tail-q.head > packetsMax || len(c.out) > outBytesMax) {
		c.wait()
	}
}

// wait waits for a change. mu is held.
func (c *conn) wait() {
	c.waiting++
	c.changed.Wait()
	c.waiting--
}

// rest pauses a sender that is over its rate and cannot be told.
func (c *conn) rest() {
	if c.pause <= 0 {
		return
	}
	c.edge.metrics.pauses.Inc()
	t := time.NewTimer(min(c.pause, pauseMax))
	defer t.Stop()
	c.pause = 0
	select {
	case <-t.C:
	case <-c.stopped:
	}
}

// flushLocked sees to it that out is written. A goroutine is made only when none is writing, so that what gathers
// meanwhile goes out in one write, and idle connections cost none.
func (c *conn) flushLocked() {
	if c.flushing || c.dead || len(c.out) == 0 {
		return
	}
	c.flushing = true
	go c.flush()
}

func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && !c.dead {
		b := c.out
		c.out = c.spare[:0]
		c.mu.Unlock()
		err := c.socket.SetWriteDeadline(c.edge.now().Add(c.edge.cfg.WriteTimeout))
		if err == nil {
			_, err = c.socket.Write(b)
		}
		c.mu.Lock()
		if c.spare = b[:0]; cap(b) > outKeep {
			c.spare = nil
		}
		if err != nil {
			c.dead = true
			c.endLocked(ending{why: "connection lost: " + err.Error(), will: true})
		}
		if c.waiting > 0 {
			c.changed.Broadcast()
		}
	}
	c.flushing = false
	c.changed.Broadcast()
}

// finish ends what read has left: it answers what may still be answered, says why, closes, and lets the session go.
func (c *conn) finish(hard context.Context) {
	e := c.ending.Load()
	stop := context.AfterFunc(hard, func() {
		_ = c.socket.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer stop()
	c.pumps.Wait()
	c.linger(hard, e.linger)
	c.mu.Lock()
	for e.finish && c.receipts.unreported > 0 && !c.dead && hard.Err() == nil {
		c.wait()
	}
	if e.tell && c.version5() && !c.dead {
		d := mqtt.Disconnect{Reason: e.reason}
		if out, err := mqtt.AppendDisconnect(c.out, c.version, &d); err == nil {
			c.out = out
		}
	}
	c.flushLocked()
	for (c.flushing || len(c.out) > 0) && !c.dead && hard.Err() == nil {
		c.wait()
	}
	c.mu.Unlock()
	c.tellPresence(hard, telemetry.Session{Reason: e.why}) // before the device can see the end and come back elsewhere
	c.kill()
	c.settleSession(hard)
	c.edge.metrics.ended.WithLabelValues(labelOf(e)).Inc()
	c.letGo(hard, e.will)
}

// linger waits for d, or less where the server stops or the client goes.
func (c *conn) linger(hard context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-hard.Done():
	}
}

// kill closes the socket and waits for the writer.
func (c *conn) kill() {
	_ = c.socket.Close() // nothing is to be done about an error
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	for c.flushing {
		c.wait()
	}
}

// settleSession waits, for the sake of QoS 2, until it is known what became of every message, and forgets the identifiers of those that
// are not on disk: they come again, and are new then.
func (c *conn) settleSession(hard context.Context) {
	if c.session.expiry <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.receipts.unreported > 0 && hard.Err() == nil {
		c.wait()
	}
	for r := range c.receipts.unanswered {
		if r.kind == mqtt.TypePubrec && r.pending > 0 {
			c.session.received.remove(r.id)
		}
	}
}

// letGo gives the session up and publishes the will, if there is reason to.
func (c *conn) letGo(hard context.Context, lost bool) {
	w := c.will
	if !lost {
		w = nil
	}
	c.edge.publishWill(hard, c.edge.sessions.detach(c.session, w))
	close(c.gone)
}
