package storetest

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// DeadLetterStore is a store of dead letters under test.
type DeadLetterStore struct {
	store.DeadLetterWriter
	Read  func(t *testing.T) []telemetry.DeadLetter // all rows, with the exact bytes of their payloads
	Crash func(t *testing.T) DeadLetterStore
}

// DeadLetters holds a store.DeadLetterWriter to its promises.
func DeadLetters(t *testing.T, open func(t *testing.T) DeadLetterStore) {
	text := func(d telemetry.DeadLetter) string {
		d.Payload = append([]byte{}, d.Payload...) // nil and empty are the same
		return fmt.Sprintf("%+q", fmt.Sprintf("%+v", d))
	}
	var wrap func(s DeadLetterStore) harness[store.DeadLetterRow]
	wrap = func(s DeadLetterStore) harness[store.DeadLetterRow] {
		return harness[store.DeadLetterRow]{
			Writer: s.DeadLetterWriter,
			row:    deadLetter,
			count:  func(t *testing.T) int { return different(t, s.Read(t), text) },
			crash:  func(t *testing.T) harness[store.DeadLetterRow] { return wrap(s.Crash(t)) },
			flush:  func(*testing.T) {},
		}
	}
	writerPromises(t, func(t *testing.T) harness[store.DeadLetterRow] { return wrap(open(t)) })
	t.Run("that a letter was put back shows in its row", func(t *testing.T) {
		s := open(t)
		h := wrap(s)
		rows := []store.DeadLetterRow{deadLetter(0), deadLetter(1), deadLetter(2)}
		mustWrite(t, h, commit(span(0, 0, 1)), rows)
		note := rows[1]
		note.ReplayOf, note.ReplayedBy, note.ReplayedAt = note.At.ID(), "ada", note.ReceivedAt+5
		for range 2 { // the same write again
			mustWrite(t, h, commit(span(0, 1, 2)), []store.DeadLetterRow{note})
		}
		var want []telemetry.DeadLetter
		for _, r := range rows {
			want = append(want, r.DeadLetter)
		}
		want[1].ReplayedBy, want[1].ReplayedAt = note.ReplayedBy, note.ReplayedAt
		wantSame(t, s.Read(t), want, text)
		wantSame(t, s.Crash(t).Read(t), want, text)
	})
	t.Run("the bytes come back exactly, text or not", func(t *testing.T) {
		s := open(t)
		var rows []store.DeadLetterRow
		var want []telemetry.DeadLetter
		for i, payload := range []string{"", "plain", `{"a":"größer"}`, "\xff\xfe\x00\\x41", "\x00", "back\\slash", "tab\tline\n", "\u202e\x1b[31m"} {
			d := deadLetter(i)
			d.Payload = []byte(payload)
			rows, want = append(rows, d), append(want, d.DeadLetter)
		}
		h := wrap(s)
		mustWrite(t, h, commit(span(0, 0, 1)), rows)
		wantSame(t, s.Read(t), want, text)
		wantSame(t, s.Crash(t).Read(t), want, text)
	})
}

func deadLetter(i int) store.DeadLetterRow {
	return store.DeadLetterRow{At: origin(i), DeadLetter: telemetry.DeadLetter{
		Topic: "ingested", Worker: "router", Reason: fmt.Sprintf("line %d: no channel key", i), Payload: fmt.Appendf(nil, "{%d", i),
		ReceivedAt: telemetry.Time(1_492_016_720_480_850_700 + int64(i)), Tenant: "default", DeviceID: fmt.Sprintf("d-%d", i%3),
		Partition: int32(i % 4), Position: fmt.Sprintf("%d.0", i), Credential: "key",
		Context: fmt.Sprintf(`{"origin":"0.%d.0"}`, i),
	}}
}

func origin(i int) bus.Origin {
	return bus.Origin{Partition: int32(i % 4), Position: bus.Position{Seq: uint64(i/4 + 1)}}
}
