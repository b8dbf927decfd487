package kafka

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	dialTimeout = 3 * time.Second
	// helloMax is for all of a new connection: to dial, perhaps several addresses, TLS, SASL.
	helloMax  = 10 * time.Second
	keepAlive = 15 * time.Second
	connIdle  = time.Minute
	// metadataEvery is at most how long a change of leaders goes unseen: the transport asks at random times within it.
	metadataEvery = 2 * time.Second
)

// connections are those that are open, so that Close can end what is under way on them: the transport itself closes only those that
// are idle.
type connections struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

type trackedConn struct {
	net.Conn
	all *connections
}

func (c *trackedConn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c.Conn)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

func (c *connections) track(conn net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return nil, bus.ErrClosed
	}
	if c.open == nil {
		c.open = map[net.Conn]struct{}{}
	}
	c.open[conn] = struct{}{}
	return &trackedConn{Conn: conn, all: c}, nil
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.open {
		_ = conn.Close()
	}
	clear(c.open)
}

// connect makes the client. Nothing is sent before its first use.
func (l *Log) connect() error {
	brokers, err := l.cfg.brokers()
	if err != nil {
		return err
	}
	mechanism, err := l.cfg.mechanism()
	if err != nil {
		return err
	}
	topics := make([]string, 0, len(l.topics))
	for _, topic := range l.topics {
		topics = append(topics, l.cfg.Prefix+topic)
	}
	l.transport = &kafkago.Transport{
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := l.cfg.Dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return l.conns.track(conn)
		},
		DialTimeout: helloMax, IdleTimeout: connIdle, MetadataTTL: metadataEvery, MetadataTopics: topics,
		ClientID: clientID, TLS: l.cfg.TLS, SASL: mechanism, Context: l.life,
	}
	l.brokers = kafkago.TCP(brokers...)
	l.client = &kafkago.Client{Addr: l.brokers, Transport: l.transport}
	return nil
}

func (c Config) mechanism() (sasl.Mechanism, error) {
	switch c.SASL {
	case "":
		return nil, nil
	case Plain:
		return plain.Mechanism{Username: c.User, Password: c.Password}, nil
	}
	algorithm := scram.SHA512
	if c.SASL == ScramSHA256 {
		algorithm = scram.SHA256
	}
	mechanism, err := scram.Mechanism(algorithm, c.User, c.Password)
	if err != nil {
		return nil, fmt.Errorf("%s for user %q: %w", c.SASL, c.User, err)
	}
	return mechanism, nil
}

// ask sends a request of our own encoding to the leader of p and returns the reply's body.
func (l *Log) ask(ctx context.Context, p *partition, key protocol.ApiKey, version int16, request []byte) ([]byte, error) {
	e := &exchange{key: key, version: version, request: request}
	if _, err := l.transport.RoundTrip(ctx, l.brokers, toLeader{exchange: e, topic: p.topic, partition: p.number}); err != nil {
		return nil, err
	}
	return e.reply, nil
}

// askCoordinator sends one to the coordinator of group.
func (l *Log) askCoordinator(ctx context.Context, group string, key protocol.ApiKey, version int16, request []byte) ([]byte, error) {
	e := &exchange{key: key, version: version, request: request}
	if _, err := l.transport.RoundTrip(ctx, l.brokers, toCoordinator{exchange: e, group: group}); err != nil {
		return nil, err
	}
	return e.reply, nil
}
