package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
)

// Log is a log on JetStream. Safe for concurrent use.
type Log struct {
	cfg       Config
	conn      *nats.Conn
	js        jetstream.JetStream
	positions jetstream.KeyValue // progress by group, topic and partition
	groups    jetstream.KeyValue // members and owners
	parts     map[bus.PartitionID]*partition
	metrics   *metrics
	id        string // of this member, and of its message ids
	link      link
	frames    sync.Pool     // of *frameBuffers
	sent      atomic.Uint64 // messages, for their ids
	ends      *endsFile     // nil without Config.Ends

	rosterMu sync.Mutex
	roster   *roster // nil while this process has no members
	members  int     // that it has

	life    context.Context //nolint:containedctx // ends with Close; what it starts outlives Open's context
	end     context.CancelFunc
	running sync.WaitGroup // goroutines of the log itself
}

var _ bus.Log = (*Log)(nil)

// partition is what the log knows of one partition.
type partition struct {
	id      bus.PartitionID
	stream  string
	subject string
	end     atomic.Pointer[streamEnd] // as last seen; nil before
	acked   atomic.Uint64             // the highest sequence that this process knows to be on disk

	mu      sync.Mutex
	unknown []unknownFrame // appends whose outcome nobody knows, oldest first
	trimmed time.Time      // when it was last full and trimmed for that
}

// streamEnd is the newest record of a stream, which is known by when it was made.
type streamEnd struct {
	made time.Time
	seq  uint64 // of the newest message
	at   bus.Position
}

// Open connects and creates or updates what Config asks for: a stream for each partition, and two buckets. It returns an
// error when the server cannot be reached, or has the topics with another number of partitions. ctx limits Open only.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	l := &Log{cfg: cfg, conn: cfg.Conn, id: nats.NewInbox()[len(nats.InboxPrefix):], metrics: newMetrics(cfg.Metrics)}
	l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the log at %s: %w", l.where(), err), l.Close())
	}
	if !cfg.Synced {
		cfg.Log.Warn("cannot see whether the NATS server syncs every append: unless it has sync_interval: always, a power failure loses acknowledged messages",
			"server", l.where())
	}
	return l, nil
}

func (l *Log) open(ctx context.Context) error {
	if l.conn == nil {
		conn, err := nats.Connect(l.cfg.URL, append([]nats.Option{
			nats.Name("millrace"), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 100*time.Millisecond),
			nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2), // so that a node that hangs is left within seconds, not minutes
			nats.IgnoreAuthErrorAbort(), // credentials may be renewed on either side; by default the second refusal is the last
			nats.ErrorHandler(l.noted), nats.DisconnectErrHandler(l.noteDisconnect),
			nats.ReconnectBufSize(-1), // what is sent while disconnected fails at once, and is sent again by who knows whether it still matters
		}, l.cfg.Options...)...)
		if err != nil {
			return explain(err)
		}
		l.conn = conn
	}
	l.link.reset(l.life) //nolint:contextcheck // ctx limits the opening only
	changed := l.conn.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	l.running.Go(func() { l.watchLink(changed) })
	// A server that takes some frames and refuses others would have the first part of an append again and again.
	if limit := l.conn.MaxPayload(); limit > 0 && limit < int64(l.cfg.FrameBytesMax+messageOverheadBytes) {
		return fmt.Errorf("frame_bytes_max: %d, but the server's max_payload is %d, want at least 1 KiB more than a frame", l.cfg.FrameBytesMax, limit)
	}
	js, err := jetstream.New(l.conn, jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		return err
	}
	l.js = js
	if err := l.layOutInTime(ctx); err != nil {
		return err
	}
	if l.conn.ConnectedClusterName() != "" && l.cfg.Replicas == 1 {
		l.cfg.Log.Warn("the server is one of a cluster, but each partition is on one node only: set replicas to 3, or its death takes it away", "server", l.where())
	}
	if l.cfg.Ends != "" {
		l.ends = openEnds(l.cfg.Ends, l.cfg.Log)
		l.running.Go(l.rememberNowAndThen)
	}
	if l.cfg.Trim {
		l.running.Go(l.trimNowAndThen)
	}
	return nil
}

// noted logs what the client library would keep to itself, such as a refusal of the server to let it publish.
func (l *Log) noted(_ *nats.Conn, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	l.cfg.Log.Warn("the NATS connection has a fault", "error", err, "subject", subject)
}

func (l *Log) noteDisconnect(_ *nats.Conn, err error) {
	if l.life.Err() == nil {
		l.cfg.Log.Warn("the connection to the NATS server was lost; trying to get it back", "error", err)
	}
}

// where names the server without the credentials that a URL may have.
func (l *Log) where() string {
	if l.conn != nil {
		return l.conn.ConnectedUrlRedacted()
	}
	at := strings.LastIndexByte(l.cfg.URL, '@')
	return l.cfg.URL[at+1:]
}

// Partitions returns the number of partitions, the same for every topic.
func (l *Log) Partitions(string) int { return l.cfg.Partitions }

// Partition implements bus.Log.
func (l *Log) Partition(_ context.Context, id bus.PartitionID) (bus.Partition, error) {
	if err := l.fault(); err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	p, err := l.partition(id)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	return &view{log: l, part: p}, nil
}

// Reached implements bus.Log.
func (l *Log) Reached(ctx context.Context, group string, id bus.PartitionID) (bus.Position, error) {
	p, err := l.partition(id)
	if err != nil {
		return bus.Position{}, fmt.Errorf("read the commit of %s on %s: %w", group, id, err)
	}
	progress, _, err := (&view{log: l, part: p, commit: &commit{key: commitKey(group, id)}}).Committed(ctx)
	return progress.Through, err
}

// Close ends reads and subscriptions with bus.ErrClosed, and what Append has under way with an unknown outcome.
func (l *Log) Close() error {
	l.end()
	if l.conn != nil && l.cfg.Conn == nil {
		l.conn.Close()
	}
	l.running.Wait()
	return nil
}

// fault returns why l is of no more use, nil while it is.
func (l *Log) fault() error {
	if l.life.Err() != nil {
		return bus.ErrClosed
	}
	return nil
}

func (l *Log) partition(id bus.PartitionID) (*partition, error) {
	return bus.Find(l.parts, id, l.cfg.Partitions)
}

func (l *Log) newPartition(id bus.PartitionID) *partition {
	n := strconv.Itoa(id.Number)
	return &partition{
		id:      id,
		stream:  l.cfg.Prefix + "_" + id.Topic + "_" + n,
		subject: strings.ToLower(l.cfg.Prefix) + "." + id.Topic + "." + n,
	}
}
