package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/bustest"
	"github.com/millrace/millrace/pkg/bus/kafka"
	"github.com/millrace/millrace/pkg/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is what lies between a log and its brokers: it can be cut, as when the log's process is killed, and held, as when
// packets are lost.
type network struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	cut   bool
	held  bool
	deaf  bool
}

var errCut = errors.New("the network is cut")

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut || n.held {
		_ = conn.Close()
		return nil, errCut
	}
	if n.conns == nil {
		n.conns = map[net.Conn]struct{}{}
	}
	n.conns[conn] = struct{}{}
	return &wire{Conn: conn, net: n}, nil
}

// kill ends every connection, for good.
func (n *network) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
	n.closeAll()
}

func (n *network) closeAll() {
	for conn := range n.conns {
		_ = conn.Close()
	}
	clear(n.conns)
}

// hold lets nothing through any more, in either direction, without closing a connection.
func (n *network) hold() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = true
}

// release lets everything through again, on new connections.
func (n *network) release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = false
	n.closeAll()
}

// loseReplies makes what is sent arrive, and the connection break before the answer.
func (n *network) loseReplies(lose bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = lose
}

func (n *network) losesReplies() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaf
}

func (n *network) holds() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held
}

// wire is one connection through a network.
type wire struct {
	net.Conn
	net *network
}

// Read reads what comes through. What comes while nothing does is lost, as the connection is for its reader, who waits on.
func (w *wire) Read(b []byte) (int, error) {
	for {
		n, err := w.Conn.Read(b)
		if err == nil && w.net.losesReplies() {
			_ = w.Conn.Close()
			return 0, errCut
		}
		if err != nil || !w.net.holds() {
			return n, err
		}
	}
}

// Write loses what is sent while nothing comes through.
func (w *wire) Write(b []byte) (int, error) {
	if w.net.holds() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Close() error {
	w.net.mu.Lock()
	delete(w.net.conns, w.Conn)
	w.net.mu.Unlock()
	return w.Conn.Close()
}

// prefix returns one of the test's own, whose topics and groups are removed in the end.
func prefix(tb testing.TB, e *enginetest.Engine) string {
	tb.Helper()
	name := fmt.Sprintf("t%08x.", rand.Uint32())
	tb.Cleanup(func() { remove(tb, e, name) })
	return name
}

func remove(tb testing.TB, e *enginetest.Engine, prefix string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(addresses(e.URL)...), Transport: transport}
	meta, err := client.Metadata(ctx, &kafkago.MetadataRequest{})
	if err != nil {
		tb.Errorf("list the topics: %v", err)
		return
	}
	var topics []string
	for _, topic := range meta.Topics {
		if strings.HasPrefix(topic.Name, prefix) {
			topics = append(topics, topic.Name)
		}
	}
	if len(topics) == 0 {
		return
	}
	if _, err := client.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: topics}); err != nil {
		tb.Errorf("delete the topics: %v", err)
	}
}

func addresses(url string) []string { return strings.Split(strings.TrimPrefix(url, "kafka://"), ",") }

func openLog(tb testing.TB, cfg kafka.Config) *kafka.Log {
	tb.Helper()
	log, err := kafka.Open(tb.Context(), withTestDefaults(tb, cfg))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := log.Close(); err != nil {
			tb.Error(err)
		}
	})
	return log
}

func withTestDefaults(tb testing.TB, cfg kafka.Config) kafka.Config {
	tb.Helper()
	cfg.Now, cfg.CreateTopics = time.Now, true
	if cfg.Lease == 0 {
		cfg.Lease = 6 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}
	return cfg
}

func suiteConfig(t *testing.T, e *enginetest.Engine, o bustest.Options) kafka.Config {
	t.Helper()
	cfg := kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: o.Partitions, RecordBytesMax: o.RecordBytesMax, Trim: true}
	if o.BytesMax > 0 {
		cfg.Retention.BytesMax = o.BytesMax * int64(o.Partitions)
	}
	return cfg
}

// TestContract crashes the process that holds the log, of which nothing is left but what Kafka has. Brokers are killed by TestKill….
func TestContract(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	bustest.Run(t, bustest.Driver{Open: func(t *testing.T, o bustest.Options) bustest.Instance {
		t.Helper()
		cfg := suiteConfig(t, e, o)
		between := &network{}
		open := func(t *testing.T) bus.Log {
			t.Helper()
			c := cfg
			c.Dial = between.dial
			return openLog(t, c)
		}
		return bustest.Instance{
			Log:   open(t),
			Again: open,
			Crash: func(t *testing.T) bus.Log {
				t.Helper()
				between.kill()
				between = &network{}
				return open(t)
			},
			Mortal: func(t *testing.T) (bus.Log, func()) {
				t.Helper()
				c, hung := cfg, &network{}
				c.Dial = hung.dial
				return openLog(t, c), hung.hold
			},
		}
	}})
}
