package books

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// The limits of one audit.
const (
	devicesMax  = 1 << 20 // devices of one audit; more is an error that says to ask for less
	linesHeld   = 1 << 20 // lines of a router's accounts that are kept until it is clear which of them count
	recordsMax  = 5_000_000
	namedMax    = 1000 // messages that are named
	comparedMax = 200  // devices whose rows are compared with the log one by one
)

// Clocks of several machines differ, and an account is written a little after what it tells of.
const (
	skew      = 5 * time.Minute
	readOnFor = 15 * time.Minute
)

// ErrTooMuch is wrapped by the error of an audit that would take more memory than it may.
var ErrTooMuch = errors.New("too much for one audit: ask for less time, or for one device")

// Store is one table that the audit holds against the books.
type Store struct {
	Table  string   // of package store
	Topics []string // of telemetry, logs and events: what it keeps
	Worker string   // who writes it
	Reader store.Reader
	// Progress says how far Worker has come with a partition of Topics, as far as that is on disk; where ok is false it has not begun.
	// nil says that nobody knows: then what is not stored counts as missing.
	Progress Progress
}

// Log is what an audit needs of the log; bus.Log is one.
type Log interface {
	Partitions(topic string) int
	Partition(ctx context.Context, id bus.PartitionID) (bus.Partition, error)
}

// Auditor holds the stores against the books. Safe for concurrent use.
type Auditor struct {
	Log    Log
	Stores []Store
	// Letters answers for dead_letters; nil where nobody does.
	Letters store.Reader
	Now     func() time.Time
}

// Query says what is audited: messages whose ingest time is at least From and below To. Both are rounded outward to whole minutes,
// since that is how the books count.
type Query struct {
	From, To telemetry.Time
	Device   string // "" is all
	Devices  int    // most devices of the report, those with a breach first; 0 is all
}

// Audit reads the books and asks the stores. It takes as long as it takes to read the books of the time asked for, and, only where
// they do not agree with a store, the log of that time.
func (a *Auditor) Audit(ctx context.Context, q Query) (*Report, error) {
	if q.From >= q.To {
		return nil, fmt.Errorf("from %v is not before to %v", q.From.Std(), q.To.Std())
	}
	r := newRun(a, q)
	for _, step := range []func(context.Context) error{r.readBooks, r.countStores, r.countLetters, r.compare} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return r.report(), nil
}

// key names a device. The partition is the one of ingested that has its messages.
type key struct {
	tenant, device string
	partition      int32
}

// device is what the audit knows of one.
type device struct {
	key
	accepted, edgeLetters        uint64 // by the edge
	read, repeats, refused       uint64 // by the router
	telemetry, logs, events      uint64 // likewise
	routerLetters, lettersStored uint64
	unread                       uint64 // on the log, where no account of a router tells of it yet
	stores                       []held // beside Auditor.Stores
}

// held is what a store has of a device.
type held struct {
	rows       int64
	onTheWay   int64
	letters    int64 // dead letters of the store's worker
	missing    int64
	doubled    int64
	unexpected int64
}

// routed is how many messages went to one of topics.
func (d *device) routed(topics []string) int64 {
	n := uint64(0)
	for _, topic := range topics {
		switch topic {
		case bus.Telemetry:
			n += d.telemetry
		case bus.Logs:
			n += d.logs
		case bus.Events:
			n += d.events
		}
	}
	return signed(n)
}

func signed(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}

// line is one of a router's account, of a device that is asked for.
type line struct {
	device *device
	counts telemetry.AccountLine // without its texts
}

// run is one audit.
type run struct {
	*Auditor
	q                    Query
	fromMinute, toMinute int64 // the latter exclusive
	devices              map[key]*device
	open                 bool // messages may still come that are asked for
	notes                []string
	complete             bool
	breaches             []Breach
	unnamed              int // breaches beyond namedMax
	records              int // read of the log
}

func newRun(a *Auditor, q Query) *run {
	r := &run{Auditor: a, q: q, devices: map[key]*device{}, complete: true}
	r.fromMinute, r.toMinute = Minute(q.From), Minute(q.To-1)+1
	r.open = r.to() > telemetry.At(a.Now())-telemetry.Time(skew)
	return r
}

func (r *run) from() telemetry.Time { return telemetry.Time(r.fromMinute * int64(time.Minute)) }
func (r *run) to() telemetry.Time   { return telemetry.Time(r.toMinute * int64(time.Minute)) }

func (r *run) note(format string, args ...any) {
	const notesMax = 50
	if len(r.notes) < notesMax {
		r.notes = append(r.notes, fmt.Sprintf(format, args...))
	}
}

// wants reports whether a minute of a device is asked for.
func (r *run) wants(name string, minute int64) bool {
	return minute >= r.fromMinute && minute < r.toMinute && (r.q.Device == "" || name == r.q.Device)
}

// of returns what is known of a device. The texts are copied.
func (r *run) of(tenant, name string, partition int32) (*device, error) {
	if d := r.devices[key{tenant, name, partition}]; d != nil {
		return d, nil
	}
	if len(r.devices) >= devicesMax {
		return nil, fmt.Errorf("more than %d devices: %w", devicesMax, ErrTooMuch)
	}
	d := &device{key: key{strings.Clone(tenant), strings.Clone(name), partition}, stores: make([]held, len(r.Stores))}
	r.devices[d.key] = d
	return d, nil
}
