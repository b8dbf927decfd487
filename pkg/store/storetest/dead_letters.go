package storetest

import (
	"fmt"
	"testing"

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
	var wrap func(s DeadLetterStore) harness[telemetry.DeadLetter]
	wrap = func(s DeadLetterStore) harness[telemetry.DeadLetter] {
		return harness[telemetry.DeadLetter]{
			Writer: s.DeadLetterWriter,
			row:    deadLetter,
			count:  func(t *testing.T) int { return different(t, s.Read(t), text) },
			crash:  func(t *testing.T) harness[telemetry.DeadLetter] { return wrap(s.Crash(t)) },
			flush:  func(*testing.T) {},
		}
	}
	writerPromises(t, func(t *testing.T) harness[telemetry.DeadLetter] { return wrap(open(t)) })
	t.Run("the bytes come back exactly, text or not", func(t *testing.T) {
		s := open(t)
		var want []telemetry.DeadLetter
		for i, payload := range []string{"", "plain", `{"a":"größer"}`, "\xff\xfe\x00\\x41", "\x00", "back\\slash", "tab\tline\n", "\u202e\x1b[31m"} {
			d := deadLetter(i)
			d.Payload = []byte(payload)
			want = append(want, d)
		}
		h := wrap(s)
		mustWrite(t, h, commit(span(0, 0, 1)), want)
		wantSame(t, s.Read(t), want, text)
		wantSame(t, s.Crash(t).Read(t), want, text)
	})
}

func deadLetter(i int) telemetry.DeadLetter {
	return telemetry.DeadLetter{
		Topic: "ingested", Worker: "router", Reason: fmt.Sprintf("line %d: no channel key", i), Payload: fmt.Appendf(nil, "{%d", i),
		ReceivedAt: telemetry.Time(1_492_016_720_480_850_700 + int64(i)), Tenant: "default", DeviceID: fmt.Sprintf("d-%d", i%3),
		Partition: int32(i % 4), Position: fmt.Sprintf("%d.0", i), Credential: "key",
	}
}
