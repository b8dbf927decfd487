package logconsumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// lettersRemembered is how many dead letters a share remembers. What a worker writes again after a crash is what it had
// taken since its last commit; where more than this of it were dead letters, some are stored twice.
const lettersRemembered = 4096

// warmWait bounds how long reading back may wait for records that were trimmed away.
const warmWait = 5 * time.Second

// letters is the task that keeps dead letters, and the notes of those that were put back.
type letters struct {
	known map[uint64]struct{} // by hash of what makes a letter the same
	ring  []uint64            // the hashes in the order in which they came, up to lettersRemembered
	next  int                 // the oldest in a full ring
	share int32
}

func newLetters(share int) *letters {
	return &letters{known: make(map[uint64]struct{}), share: int32(share)} //nolint:gosec // there are at most 1,024
}

// Add implements worker.Task.
func (t *letters) Add(out *worker.Output[store.DeadLetterRow], _ string, r bus.Record) error {
	var d telemetry.DeadLetter
	if err := telemetry.ParseDeadLetter(r.Value, &d); err != nil {
		return fmt.Errorf("read the dead letter: %w", err)
	}
	if d.ReplayOf != "" {
		return t.replay(out, &d, r)
	}
	if t.take(&d) {
		markEscaped(&d)
		out.Rows = append(out.Rows, store.DeadLetterRow{DeadLetter: d, At: bus.Origin{Partition: t.share, Position: r.Position}})
	}
	return nil
}

// replay keeps the note that a letter was put back, and gives what it held to its worker where the note asks for that. Since one
// share has all notes of a letter, in order, of two that were asked for at the same time the second does nothing.
func (t *letters) replay(out *worker.Output[store.DeadLetterRow], d *telemetry.DeadLetter, r bus.Record) error {
	at, err := bus.ParseOrigin(d.ReplayOf)
	if err != nil {
		return fmt.Errorf("read the note of a replay: replay_of: %w", err)
	}
	if !t.take(d) {
		return nil
	}
	if d.Deliver {
		again := telemetry.Redelivery{Worker: d.Worker, Topic: d.Topic, Letter: d.ReplayOf, Value: d.Payload}
		if len(d.Repaired) > 0 {
			again.Value = d.Repaired
		}
		var c telemetry.LetterContext
		if json.Unmarshal([]byte(d.Context), &c) == nil {
			again.Origin = c.Origin
		}
		out.Publish = append(out.Publish, worker.Publication{Topic: bus.Redelivered, Record: bus.Record{
			Origin: bus.RedeliveredOrigin(int(t.share), r.Position), Value: telemetry.AppendRedelivery(nil, &again),
		}})
	}
	markEscaped(d)
	out.Rows = append(out.Rows, store.DeadLetterRow{DeadLetter: *d, At: at})
	return nil
}

// markEscaped says in the context that the column payload will hold an escaped form, which nobody could tell from a text that looks like it.
func markEscaped(d *telemetry.DeadLetter) {
	const escaped = `"escaped":true}`
	if _, yes := store.PayloadText(d.Payload); !yes || strings.HasSuffix(d.Context, escaped) {
		return
	}
	if len(d.Context) <= len("{}") {
		d.Context = "{" + escaped
		return
	}
	d.Context = d.Context[:len(d.Context)-1] + "," + escaped
}

// Tick implements worker.Task.
func (t *letters) Tick(*worker.Output[store.DeadLetterRow], telemetry.Time, telemetry.Time) {}

// take reports whether d is new. What never was on the log has no identity and is always new.
func (t *letters) take(d *telemetry.DeadLetter) bool {
	if d.Position == "" && d.ReplayOf == "" {
		return true
	}
	h := identity(d)
	if _, known := t.known[h]; known {
		return false
	}
	t.known[h] = struct{}{}
	if len(t.ring) < lettersRemembered {
		t.ring = append(t.ring, h)
		return true
	}
	delete(t.known, t.ring[t.next])
	t.ring[t.next] = h
	t.next = (t.next + 1) % lettersRemembered
	return true
}

// identity is a hash of who refused which record why, or of the letter that was put back. One record may have several letters of one
// worker, with different reasons.
func identity(d *telemetry.DeadLetter) uint64 {
	var h xxhash.Digest
	h.Reset()
	if d.ReplayOf != "" {
		_, _ = h.WriteString("replay of " + d.ReplayOf)
		return h.Sum64()
	}
	for _, s := range []string{d.Worker, d.Topic, d.Position, d.Reason} {
		_, _ = h.WriteString(s)
		_, _ = h.Write([]byte{0, byte(d.Partition), byte(d.Partition >> 8)}) //nolint:gosec // there are fewer than 65,536 partitions
	}
	return h.Sum64()
}

// warm lets a fresh task remember the last letters before its progress.
func warm(ctx context.Context, task worker.Task[store.DeadLetterRow], share bus.Share, progress []bus.Progress) error {
	t, ok := task.(*letters)
	if !ok {
		return nil
	}
	p, through := share.Partitions[0], progress[0].Through
	end, err := p.End(ctx)
	if err != nil {
		return fmt.Errorf("remember the last dead letters: %w", err)
	}
	if through.IsZero() || end.Compare(through) < 0 {
		return nil
	}
	var start bus.Start
	if through.Seq > lettersRemembered {
		start.Position.Seq = through.Seq - lettersRemembered
	}
	reading, cancel := context.WithTimeout(ctx, warmWait)
	defer cancel()
	for batch, err := range p.After(reading, start) {
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			return fmt.Errorf("remember the last dead letters: %w", err)
		}
		for _, r := range batch.Records {
			if r.Position.Compare(through) > 0 {
				return nil
			}
			var d telemetry.DeadLetter
			if telemetry.ParseDeadLetter(r.Value, &d) == nil {
				t.take(&d)
			}
		}
		if batch.Last().Compare(through) >= 0 {
			return nil
		}
	}
	return ctx.Err() // what was trimmed away never comes: then there is nothing to remember
}
