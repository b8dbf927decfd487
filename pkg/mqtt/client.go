package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"time"
)

// What a client does when its options say nothing, and its fixed limits.
const (
	KeepAliveDefault   = time.Minute
	MaxInflightDefault = 1000
	MaxInflightLimit   = 65_000 // identifiers above it are for SUBSCRIBE and UNSUBSCRIBE

	readSize        = 64 << 10
	outMax          = 256 << 10 // bytes waiting to be written, beyond which who publishes waits
	disconnectGrace = 5 * time.Second
)

// What a caller may want to tell apart; a refusal is a *Refused, and a fault in what was received an *Error.
var (
	// ErrClosed is the end of a client that was disconnected or closed by its owner.
	ErrClosed = errors.New("mqtt: client is closed")
	// ErrKeepAlive is the end of a client whose server did not answer a ping.
	ErrKeepAlive = errors.New("mqtt: no answer to a ping within the keep alive")
	// ErrResumed refuses QoS 2 in a session that the server kept from an earlier connection: this client does not know
	// which identifiers are in use there, and the server would take a new message for a repeat and drop it.
	ErrResumed = errors.New("mqtt: QoS 2 in a session of an earlier connection; use CleanStart")
)

// ClientOptions says how to connect. Addr alone is enough: it gives MQTT 5, a client identifier made up by the server, and a
// session that ends with the connection.
type ClientOptions struct {
	Addr string      // host:port
	TLS  *tls.Config // nil: no TLS; an empty ServerName is taken from Addr

	Version       Version // zero: Version5
	ClientID      string  // empty: a clean start, whatever CleanStart says
	Username      string
	Password      []byte
	CleanStart    bool
	SessionExpiry time.Duration // MQTT 5: how long the server keeps the session; whole seconds, negative for ever
	KeepAlive     time.Duration // whole seconds; zero: KeepAliveDefault, negative: none
	Will          *Will         // nil: none

	// MaxInflight is how many messages of QoS 1 and 2 may be unacknowledged; who publishes more waits. Zero:
	// MaxInflightDefault. A smaller Receive Maximum of the server takes precedence.
	MaxInflight int
	// PacketMax is the largest packet taken from the server, in bytes; zero: PacketMaxDefault. Beyond it the connection ends.
	PacketMax int

	// OnMessage is called for each message that arrives, one after the other, from the client's reading goroutine; a message
	// of QoS 1 or 2 is acknowledged when it has returned. The message is valid until then. It must not
	// block for long, and must not publish, subscribe or disconnect. Nil: messages are acknowledged and dropped.
	OnMessage func(*Publish)
	// Dial opens the connection; nil: net.Dialer, over TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client is one connection to a server. It pipelines: any number of goroutines may publish at once, what they say is
// gathered into few writes, and acknowledgements are handled as they come.
//
// It does not reconnect. When the connection is lost, every message in flight ends with an error, its outcome
// unknown; the owner connects again and sends it again, which makes it at least once.
//
// Safe for concurrent use, except from within OnMessage and done functions, where only Close, Err and Done are allowed.
type Client struct {
	opts    ClientOptions
	conn    net.Conn
	reader  *Reader
	connack Connack
	version Version

	mu       sync.Mutex
	room     *sync.Cond // for who waits for an identifier, for room in out, or for all to be acknowledged
	waiting  int        // how many do
	work     *sync.Cond // for the writer
	idle     bool       // the writer waits
	out      []byte     // not yet handed to the connection
	writing  bool       // a batch is being written
	batches  uint64     // written or being written
	pingOut  bool       // a PINGREQ is unanswered
	flights  []flight   // by identifier - 1
	free     []uint16   // unused identifiers, a ring: an identifier rests as long as possible
	freeAt   int
	freeLeft int
	calls    map[uint16]chan answer // SUBSCRIBE and UNSUBSCRIBE under way
	nextCall uint16
	closing  bool  // Disconnect was called
	cause    error // why it ended; nil while it lives

	stop chan struct{} // closed with cause
	done chan struct{} // closed when the goroutines have ended

	// Of the reading goroutine alone.
	acks     []ack
	ends     []end
	replies  []byte
	message  Publish
	received map[uint16]struct{} // QoS 2, between PUBLISH and PUBREL
}

// Dial connects, sends CONNECT and waits for the answer. A refusal is a *Refused. When ctx ends before the answer is there,
// Dial gives up; afterwards ctx has no effect. The owner ends the client with Disconnect or Close.
func Dial(ctx context.Context, o ClientOptions) (*Client, error) {
	if o.Version == 0 {
		o.Version = Version5
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = KeepAliveDefault
	}
	conn, err := dial(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("mqtt: connect to %s: %w", o.Addr, err)
	}
	c := &Client{
		opts: o, conn: conn, version: o.Version, reader: NewReader(conn, readSize),
		calls: map[uint16]chan answer{}, received: map[uint16]struct{}{},
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	c.room, c.work = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	c.reader.SetLimits(o.PacketMax)
	c.reader.SetVersion(o.Version)
	if err := c.handshake(ctx); err != nil {
		_ = conn.Close() // the fault is in err
		return nil, fmt.Errorf("mqtt: connect to %s: %w", o.Addr, err)
	}
	c.start()
	return c, nil
}

func dial(ctx context.Context, o *ClientOptions) (net.Conn, error) {
	open := o.Dial
	if open == nil {
		open = (&net.Dialer{}).DialContext
	}
	conn, err := open(ctx, "tcp", o.Addr)
	if err != nil || o.TLS == nil {
		return conn, err
	}
	cfg := o.TLS
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		if cfg.ServerName, _, err = net.SplitHostPort(o.Addr); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

func (c *Client) handshake(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	err := c.exchange()
	if !stop() { // ctx ended, and the connection with it
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) exchange() error {
	m, err := c.opts.connect()
	if err != nil {
		return err
	}
	out, err := AppendConnect(nil, m)
	if err != nil {
		return err
	}
	if _, err := c.conn.Write(out); err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	p, err := c.reader.Next()
	if err != nil {
		return fmt.Errorf("wait for CONNACK: %w", err)
	}
	if p.Type != TypeConnack {
		return violation(p.Type, "want CONNACK first")
	}
	// The properties outlive the reader's buffer.
	if c.connack, err = ParseConnack(append([]byte(nil), p.Body...), c.version); err != nil {
		return err
	}
	if r := c.connack.Reason; r.Failed() {
		return &Refused{Packet: TypeConnack, Code: r, Text: string(c.connack.Properties.ReasonString)}
	}
	return nil
}

// connect returns the CONNECT that the options stand for.
func (o *ClientOptions) connect() (*Connect, error) {
	keepAlive, err := seconds(max(o.KeepAlive, 0), math.MaxUint16)
	if err != nil {
		return nil, fmt.Errorf("keep alive: %w", err)
	}
	m := &Connect{
		Version: o.Version, CleanStart: o.CleanStart || o.ClientID == "", ClientID: o.ClientID, Username: o.Username, Password: o.Password, Will: o.Will,
	}
	m.KeepAlive = uint16(keepAlive) //nolint:gosec // seconds has checked it
	switch {
	case o.Version != Version5 && o.SessionExpiry != 0:
		return nil, violation(TypeConnect, "session expiry: MQTT 3.1.1 has none")
	case o.SessionExpiry < 0:
		m.Properties.SessionExpiry = math.MaxUint32
	default:
		if m.Properties.SessionExpiry, err = seconds(o.SessionExpiry, math.MaxUint32); err != nil {
			return nil, fmt.Errorf("session expiry: %w", err)
		}
	}
	return m, nil
}

// seconds rounds d up to whole seconds.
func seconds(d time.Duration, most int64) (uint32, error) {
	n := int64((d + time.Second - 1) / time.Second)
	if n > most {
		return 0, fmt.Errorf("%v is more than %d s", d, most)
	}
	return uint32(n), nil //nolint:gosec // within most
}

// start takes the server's limits and sets the goroutines going.
func (c *Client) start() {
	window := c.opts.MaxInflight
	if window <= 0 {
		window = MaxInflightDefault
	}
	window = min(window, MaxInflightLimit)
	p := &c.connack.Properties
	if p.Has(PropReceiveMaximum) {
		window = min(window, int(p.ReceiveMaximum))
	}
	keepAlive := c.opts.KeepAlive
	if p.Has(PropServerKeepAlive) {
		keepAlive = time.Duration(p.ServerKeepAlive) * time.Second
	}
	c.flights, c.free, c.freeLeft = make([]flight, window), make([]uint16, window), window
	for i := range c.free {
		c.free[i] = uint16(i + 1)
	}
	var group sync.WaitGroup
	group.Go(c.readLoop)
	group.Go(c.writeLoop)
	if keepAlive > 0 {
		group.Go(func() { c.pingLoop(keepAlive) })
	}
	go func() {
		group.Wait()
		close(c.done)
	}()
}

// Connack returns the server's answer to CONNECT: whether a session was present, and its properties. It must not be changed.
func (c *Client) Connack() *Connack { return &c.connack }

// ClientID returns the identifier that is in force: the one of the options, or the one that the server made up (MQTT 5).
func (c *Client) ClientID() string {
	if id := c.connack.Properties.AssignedClientID; len(id) > 0 {
		return string(id)
	}
	return c.opts.ClientID
}

// Done is closed when the connection has ended, every done function has been called, and no goroutine is left.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, or nil while it lives: ErrClosed, ErrKeepAlive, a *Refused that a DISCONNECT of the
// server carried, an *Error, or what the network said.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Drain waits until everything published so far is acknowledged and written, or ctx ends, or the connection does.
func (c *Client) Drain(ctx context.Context) error {
	defer context.AfterFunc(ctx, c.wakeAll)()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.cause == nil && ctx.Err() == nil && (c.freeLeft < len(c.flights) || len(c.out) > 0 || c.writing) {
		c.wait()
	}
	if c.cause != nil {
		return c.cause
	}
	return ctx.Err()
}

// Disconnect drains, tells the server that all is well, so that no will is published, and waits until the server has
// closed the connection, five seconds at the most. When ctx ends first it closes at once. It returns nil when everything
// published was acknowledged, and when the client had been closed before.
func (c *Client) Disconnect(ctx context.Context) error {
	err := c.Drain(ctx)
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	if err != nil {
		return errors.Join(err, c.Close())
	}
	c.mu.Lock()
	if !c.closing && c.cause == nil {
		c.closing = true
		// A DISCONNECT without a reason cannot be refused.
		c.out, _ = AppendDisconnect(c.out, c.version, &Disconnect{})
	}
	c.wakeLocked()
	c.mu.Unlock()
	grace := time.AfterFunc(disconnectGrace, func() { c.fail(ErrClosed) })
	defer grace.Stop()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return c.Close()
	}
}

// Close cuts the connection without a word, as a crash would: what is in flight ends with ErrClosed, and the server
// publishes the will. It does not wait; Done does. It always returns nil.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	return nil
}

// fail ends the client because of err, unless it has ended before.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = err
		close(c.stop)
	}
	c.wakeLocked()
	c.mu.Unlock()
	_ = c.conn.Close() // the reason is in cause, and closing twice does no harm
}

// wait waits for room. c.mu is held.
func (c *Client) wait() {
	c.waiting++
	c.room.Wait()
	c.waiting--
}

func (c *Client) wakeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeLocked()
}

func (c *Client) wakeLocked() {
	c.room.Broadcast()
	c.work.Signal()
}
