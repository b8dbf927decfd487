package check

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/test/torture/ledger"
)

// Books is what the log itself holds, beside what the stores do: accepted = stored + dead-lettered + repeats dropped + on the way.
type Books struct {
	Accepted int // records on the topic ingested, and letters of the edge
	Written  int // letters on the topic dead-letters
	Stored   int // in history and logs
	Letters  int // in dead_letters
	Repeats  int // records whose message the log had before
	OnTheWay int // the rest: 0 once all is drained
	Faults   []string
}

// String is one line.
func (b Books) String() string {
	return fmt.Sprintf("accepted %d = stored %d + dead-lettered %d + repeats dropped %d + on the way %d", b.Accepted, b.Stored, b.Letters, b.Repeats, b.OnTheWay)
}

// Balance reads the log from its beginning and holds it against what the stores were found to hold.
func Balance(ctx context.Context, cfg connect.BusConfig, l *ledger.Ledger, stores []Verdict) (b Books, err error) {
	log, err := connect.Bus(ctx, cfg, connect.Deps{Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		return b, err
	}
	defer func() {
		if e := log.Close(); err == nil {
			err = e
		}
	}()
	ours := l.Plan.Name + "-"
	seed, seen := maphash.MakeSeed(), map[uint64]struct{}{}
	err = each(ctx, log, bus.Ingested, func(r bus.Record) error {
		m, err := telemetry.PeekMessage(r.Value)
		if err != nil || !strings.HasPrefix(m.DeviceID, ours) {
			return err
		}
		b.Accepted++
		key := maphash.String(seed, m.DeviceID+"\x00"+m.MessageID)
		if _, again := seen[key]; again {
			b.Repeats++
		}
		seen[key] = struct{}{}
		return nil
	})
	if err != nil {
		return b, err
	}
	written := 0
	err = each(ctx, log, bus.DeadLetters, func(r bus.Record) error {
		var d telemetry.DeadLetter
		if err := telemetry.ParseDeadLetter(r.Value, &d); err != nil {
			return err
		}
		if _, _, ok := l.Plan.Letter(string(d.Payload)); ok {
			written++
		}
		return nil
	})
	if err != nil {
		return b, err
	}
	b.Accepted, b.Written = b.Accepted+written, written
	for _, v := range stores {
		switch v.Store {
		case "device_messages", "logs":
			b.Stored += v.Rows
		case "dead_letters":
			b.Letters = v.Rows
		}
	}
	b.OnTheWay = b.Accepted - b.Stored - b.Letters - b.Repeats
	if b.OnTheWay != 0 {
		b.Faults = append(b.Faults, "the books do not balance: "+b.String())
	}
	if written != b.Letters {
		b.Faults = append(b.Faults, fmt.Sprintf("the log has %d dead letters, and the table %d", written, b.Letters))
	}
	return b, nil
}

// each calls take for every record that a topic has now.
func each(ctx context.Context, log bus.Log, topic string, take func(bus.Record) error) error {
	for number := range log.Partitions(topic) {
		id := bus.PartitionID{Topic: topic, Number: number}
		if err := eachOf(ctx, log, id, take); err != nil {
			return fmt.Errorf("read %s: %w", id, err)
		}
	}
	return nil
}

func eachOf(ctx context.Context, log bus.Log, id bus.PartitionID, take func(bus.Record) error) error {
	p, err := log.Partition(ctx, id)
	if err != nil {
		return err
	}
	end, err := p.End(ctx)
	if err != nil || end.IsZero() {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for batch, err := range p.After(ctx, bus.Start{}) {
		if err != nil {
			return err
		}
		for _, r := range batch.Records {
			if err := take(r); err != nil {
				return err
			}
		}
		if batch.Last().Compare(end) >= 0 {
			return nil
		}
	}
	return ctx.Err()
}
