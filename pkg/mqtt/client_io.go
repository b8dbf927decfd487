package mqtt

import (
	"errors"
	"io"
	"runtime"
	"time"
)

const (
	acksMax  = 4096    // taken from the connection before they are acted on
	spareMax = 1 << 20 // bytes of a buffer that is kept
)

// ack is an acknowledgement that was read and not yet acted on.
type ack struct {
	typ   Type
	stage stage // what a message must wait for, for this to fit
	id    uint16
	err   error
}

// readLoop is the reading goroutine. Packets that came with one read are acted on together, so that the lock is taken once.
func (c *Client) readLoop() {
	for {
		p, err := c.reader.Next()
		if err == nil {
			err = c.take(p)
		}
		if err == nil && (len(c.acks) >= acksMax || !c.reader.Buffered()) {
			if err = c.settle(); err == nil {
				c.throttle()
			}
		}
		if err != nil {
			_ = c.settle() // what was acknowledged before the fault counts; err is the first one
			c.fail(c.lost(err))
			c.abandon()
			return
		}
	}
}

// lost says what an error of the reading goroutine means: after DISCONNECT the server's closing is no fault.
func (c *Client) lost(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return ErrClosed
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *Client) take(p Packet) error {
	switch p.Type {
	case TypePuback, TypePubrec, TypePubcomp:
		return c.takeAck(p)
	case TypePublish:
		return c.takeMessage(p)
	case TypePubrel:
		return c.takePubrel(p)
	case TypeSuback, TypeUnsuback:
		return c.takeAnswer(p)
	case TypePingresp:
		c.mu.Lock()
		c.pingOut = false
		c.mu.Unlock()
		return ParsePing(p.Type, p.Body)
	case TypeDisconnect:
		d, err := ParseDisconnect(p.Body, c.version)
		if err != nil {
			return err
		}
		return &Refused{Packet: TypeDisconnect, Code: d.Reason, Text: string(d.Properties.ReasonString)}
	default:
		return violation(p.Type, "not expected from a server")
	}
}

func (c *Client) takeAck(p Packet) error {
	var a Ack
	if err := ParseAck(p.Type, p.Body, c.version, &a); err != nil {
		return err
	}
	in := ack{typ: p.Type, id: a.PacketID}
	switch p.Type {
	case TypePuback:
		in.stage = stagePuback
	case TypePubrec:
		in.stage = stagePubrec
	default:
		in.stage = stagePubcomp
	}
	if a.Reason.Failed() {
		in.err = &Refused{Packet: p.Type, Code: a.Reason, Text: string(a.Properties.ReasonString)}
	}
	c.acks = append(c.acks, in)
	return nil
}

func (c *Client) takeMessage(p Packet) error {
	m := &c.message
	if err := ParsePublish(p.Flags, p.Body, c.version, m); err != nil {
		return err
	}
	if m.Properties.TopicAlias != 0 {
		return &Error{Packet: TypePublish, Code: ReasonTopicAliasInvalid, Detail: "this client takes no topic aliases"}
	}
	_, repeated := c.received[m.PacketID]
	if c.opts.OnMessage != nil && (m.QoS < 2 || !repeated) {
		c.opts.OnMessage(m)
	}
	switch m.QoS {
	case 1:
		c.replies = AppendPuback(c.replies, c.version, m.PacketID, ReasonSuccess)
	case 2:
		c.received[m.PacketID] = struct{}{}
		c.replies = AppendPubrec(c.replies, c.version, m.PacketID, ReasonSuccess)
	}
	return nil
}

func (c *Client) takePubrel(p Packet) error {
	var a Ack
	if err := ParseAck(p.Type, p.Body, c.version, &a); err != nil {
		return err
	}
	r := ReasonSuccess
	if _, ok := c.received[a.PacketID]; !ok {
		r = ReasonPacketIDNotFound // of an earlier connection
	}
	delete(c.received, a.PacketID)
	c.replies = AppendPubcomp(c.replies, c.version, a.PacketID, r)
	return nil
}

// settle acts on the acknowledgements that were read, and puts the replies in line.
func (c *Client) settle() error {
	c.mu.Lock()
	var err error
	for i := range c.acks {
		if err = c.land(&c.acks[i]); err != nil {
			break
		}
	}
	c.out = append(c.out, c.replies...)
	if c.waiting > 0 && len(c.acks) > 0 {
		c.room.Broadcast()
	}
	if c.idle && len(c.out) > 0 {
		c.work.Signal()
	}
	c.mu.Unlock()
	clear(c.acks)
	c.acks, c.replies = c.acks[:0], c.replies[:0]
	c.tell()
	return err
}

// throttle stops reading from a server that floods the client and does not read the replies, so that they do not pile up.
func (c *Client) throttle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 4*outMax && c.cause == nil {
		c.wait()
	}
}

// writeLoop is the writing goroutine: while one batch is being written the next one gathers.
func (c *Client) writeLoop() {
	var spare []byte
	for {
		batch, ok := c.batch(spare)
		if !ok {
			return
		}
		if _, err := c.conn.Write(batch); err != nil {
			c.fail(err)
			return
		}
		if spare = batch[:0]; cap(batch) > spareMax {
			spare = nil
		}
	}
}

// batch waits for something to write and takes all of it; spare is where the next batch gathers. ok is false at the end.
func (c *Client) batch(spare []byte) (batch []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	if c.waiting > 0 {
		c.room.Broadcast()
	}
	for len(c.out) == 0 && c.cause == nil && !c.closing {
		c.idle = true
		c.work.Wait()
		c.idle = false
		// Whoever woke the writer has most often more to say: one turn for it saves a system call a message.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	if c.cause != nil {
		return nil, false
	}
	if len(c.out) == 0 { // closing, and DISCONNECT is out: the server closes its side when it has read it
		if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // a connection that is gone already is what was wanted
		}
		return nil, false
	}
	batch, c.out = c.out, spare
	c.writing = true
	c.batches++
	return batch, true
}

// pingLoop keeps the connection alive: it looks twice in each interval, so that no silence is longer than the interval, and
// ends the client when a ping has gone unanswered for as long.
func (c *Client) pingLoop(every time.Duration) {
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	var last uint64
	unanswered := 0
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		switch {
		case c.pingOut:
			unanswered++
		case c.batches == last:
			c.out, c.pingOut, unanswered = AppendPingreq(c.out), true, 0
			c.work.Signal()
		}
		last = c.batches
		c.mu.Unlock()
		if unanswered >= 2 {
			c.fail(ErrKeepAlive)
		}
	}
}
