package elasticsearch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// stateStore keeps device_state, one document a channel, and devices.
//
// The latest wins by (event time, origin), and a document's version cannot hold both: 63 bits are just an event time. So the
// version is no more than a filter. A row is written with its event time as an external version, which the engine takes only if
// it is higher than the document's; that costs no read, and nearly every row passes. What is refused is read and compared in
// full, and where it is later after all (the same event time, a later origin) it replaces the document by compare-and-swap,
// which raises the version by one. Hence a version is never below its document's event time, so whatever passes the filter is
// later indeed, whoever else writes; and what does not pass is compared. No order of writers, repetition or crash leaves
// anything but the latest.
type stateStore struct {
	book
	devices *deviceBook
}

func (db *DB) newState() *stateStore {
	return &stateStore{book: book{db, store.TableState}, devices: newDeviceBook(db)}
}

// roundsMax is how often one write reads and compares what others change meanwhile. A zombie and its successor are two.
const roundsMax = 20

// version orders the messages of one channel, or of one device's sessions.
type version struct {
	time telemetry.Time
	bus.Origin
}

func versionOf(m *store.MessageRow) version { return version{m.EventTime, m.Origin} }

func (v version) compare(w version) int {
	return cmp.Or(cmp.Compare(v.time, w.time), cmp.Compare(v.Partition, w.Partition), v.Compare(w.Position))
}

// channelID is the key of device_state.
type channelID struct{ tenant, device, channel string }

// Write implements store.Writer.
func (s *stateStore) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := refuseAhead(len(rows), func(i int) string { return messageFault(&rows[i]) }); err != nil {
		return err
	}
	return s.rowsFirst(ctx, commit, func() error {
		var both errgroup.Group
		both.Go(func() error { return s.writeChannels(ctx, rows) })
		both.Go(func() error { return s.devices.write(ctx, rows) })
		return both.Wait()
	})
}

// newest returns the indexes of the rows that are the newest of their channels.
func newest(rows []store.MessageRow) map[channelID]int {
	by := make(map[channelID]int, min(len(rows), 4096))
	for i := range rows {
		m := &rows[i]
		if m.Kind != telemetry.KindChannel && m.Kind != telemetry.KindEvent {
			continue
		}
		key := channelID{m.Tenant, m.DeviceID, m.ChannelKey}
		if at, known := by[key]; !known || versionOf(m).compare(versionOf(&rows[at])) > 0 {
			by[key] = i
		}
	}
	return by
}

func stateID(m *store.MessageRow) string { return keyID(m.Tenant, m.DeviceID, m.ChannelKey) }

func (s *stateStore) writeChannels(ctx context.Context, rows []store.MessageRow) error {
	b := s.db.newBulk(ctx)
	index := s.db.name(s.table)
	var members []byte
	for _, i := range newest(rows) {
		m := &rows[i]
		members = strconv.AppendInt(append(members[:0], `,"version_type":"external","version":`...), max(int64(m.EventTime), 0), 10)
		b.end(closeDocument(addChannel(addWho(b.act("index", index, stateID(m), members, i), m), m)))
	}
	out := b.wait()
	if err := out.fault(); err != nil {
		return err
	}
	return s.settle(ctx, rows, out.conflicts)
}

// settle compares rows that did not pass the filter with what is stored, and replaces what they are later than.
func (s *stateStore) settle(ctx context.Context, rows []store.MessageRow, left []int) error {
	for range roundsMax {
		if len(left) == 0 {
			return nil
		}
		stored, err := s.stored(ctx, rows, left)
		if err != nil {
			return err
		}
		b := s.db.newBulk(ctx)
		index := s.db.name(s.table)
		for at, i := range left {
			m, d := &rows[i], &stored[at]
			action, members := "create", []byte(nil)
			if d.found {
				if versionOf(m).compare(d.version) <= 0 {
					continue // it is older, or the row itself
				}
				action, members = "index", appendPlace(nil, d.place)
			}
			b.end(closeDocument(addChannel(addWho(b.act(action, index, stateID(m), members, i), m), m)))
		}
		out := b.wait()
		if err := out.fault(); err != nil {
			return err
		}
		left = out.conflicts
	}
	return errRounds
}

// storedState is as much of a stored row as orders it.
type storedState struct {
	version
	place
	found bool
}

func (s *stateStore) stored(ctx context.Context, rows []store.MessageRow, of []int) ([]storedState, error) {
	index := s.db.name(s.table)
	names := make([]name, len(of))
	for at, i := range of {
		names[at] = name{index, stateID(&rows[i])}
	}
	docs, err := s.db.readMany(ctx, names)
	if err != nil {
		return nil, err
	}
	stored := make([]storedState, len(of))
	for at := range docs {
		if !docs[at].Found {
			continue
		}
		var d struct {
			Time      wireTime `json:"@timestamp"`
			Partition int32    `json:"millrace.origin.partition"`
			Position  int64    `json:"millrace.origin.position"`
		}
		if err := json.Unmarshal(docs[at].Source, &d); err != nil {
			return nil, fmt.Errorf("device_state %s: %w", docs[at].ID, err)
		}
		stored[at] = storedState{
			version: version{telemetry.Time(d.Time), bus.Origin{Partition: d.Partition, Position: store.UnpackPosition(d.Position)}},
			place:   docs[at].place(), found: true,
		}
	}
	return stored, nil
}
