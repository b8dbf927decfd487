package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// HistoryStore is a history under test.
type HistoryStore struct {
	store.HistoryWriter
	// Read returns every row that a reader sees, in any order; what is held in memory too.
	Read func(t *testing.T) []store.MessageRow
	// Crash returns the store as it comes back after a kill: the same files, nothing closed. The receiver is not used again.
	Crash func(t *testing.T) HistoryStore
}

// History holds a history to its promises; open returns an empty one, closed by t.Cleanup.
func History(t *testing.T, open func(t *testing.T) HistoryStore) {
	var wrap func(s HistoryStore) harness[store.MessageRow]
	wrap = func(s HistoryStore) harness[store.MessageRow] {
		return harness[store.MessageRow]{
			Writer: s.HistoryWriter,
			row:    Message,
			count:  func(t *testing.T) int { return different(t, s.Read(t), messageText) },
			crash:  func(t *testing.T) harness[store.MessageRow] { return wrap(s.Crash(t)) },
			flush:  func(t *testing.T) { mustFlush(t, s) },
		}
	}
	writerPromises(t, func(t *testing.T) harness[store.MessageRow] { return wrap(open(t)) })

	t.Run("a row is readable as soon as its write has returned", func(t *testing.T) {
		s := open(t)
		mustWriteHistory(t, s, commit(span(0, 0, 1)), []store.MessageRow{Message(1)})
		if got := len(s.Read(t)); got != 1 {
			t.Errorf("%d rows are readable before any flush, want 1", got)
		}
	})
	t.Run("after a flush everything written is on disk", func(t *testing.T) {
		s := open(t)
		mustWriteHistory(t, s, commit(span(0, 0, 1)), messages(0, 100))
		mustFlush(t, s)
		wantProgress(t, wrap(s), 0, 1)
		s = s.Crash(t)
		wantProgress(t, wrap(s), 0, 1)
		wantMessages(t, s.Read(t), messages(0, 100))
	})
	t.Run("every column comes back as it was written", func(t *testing.T) {
		s := open(t)
		want := append(messages(0, 50), Extremes()...)
		mustWriteHistory(t, s, commit(span(0, 0, 1)), want)
		wantMessages(t, s.Read(t), want)
		mustFlush(t, s)
		wantMessages(t, s.Read(t), want)
		wantMessages(t, s.Crash(t).Read(t), want)
	})
	t.Run("rows of any hour, in any order", func(t *testing.T) {
		s := open(t)
		var want []store.MessageRow
		for i := range 300 {
			m := Message(i)
			m.EventTime -= telemetry.Time(int64(i*7919%300) * 3_600_000_000_000)
			want = append(want, m)
		}
		mustWriteHistory(t, s, commit(span(0, 0, 1)), want)
		mustFlush(t, s)
		wantMessages(t, s.Read(t), want)
	})
	t.Run("a reader sees each row once while segments close", func(t *testing.T) {
		s := open(t)
		for i := range 20 {
			mustWriteHistory(t, s, commit(span(0, i, i+1)), messages(i*50, i*50+50))
			if i%5 == 4 {
				mustFlush(t, s)
			}
			wantMessages(t, s.Read(t), messages(0, i*50+50))
		}
	})
}

func mustFlush(t *testing.T, s store.Buffered) {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

func mustWriteHistory(t *testing.T, s HistoryStore, c store.Commit, rows []store.MessageRow) {
	t.Helper()
	if err := s.Write(t.Context(), c, rows); err != nil {
		t.Fatalf("write %v: %v", c.Spans, err)
	}
}

// Message returns the i-th of many messages of ten devices, two seconds apart, all different.
func Message(i int) store.MessageRow {
	device := fmt.Sprintf("device-%d", i%10)
	return store.MessageRow{
		Message: telemetry.Message{
			Tenant: telemetry.DefaultTenant, DeviceID: device, DeviceType: "Gateway_v1", Kind: telemetry.KindChannel,
			ChannelKey: fmt.Sprintf("channel-%d", i%7), ChannelType: "number",
			ChannelValue: fmt.Appendf(nil, "%d.5", i), Value: float64(i) + 0.5, HasValue: true,
			EventTime:  1_492_016_720_480_850_700 + telemetry.Time(i)*2_000_000_000,
			IngestTime: 1_492_016_721_000_000_001 + telemetry.Time(i)*2_000_000_000,
			MessageID:  fmt.Sprintf("id-%d", i), Source: "mqtt", Credential: "key-1", Codec: "channel",
		},
		Origin: bus.Origin{Partition: int32(i % 3), Position: bus.Position{Seq: uint64(i/5 + 1), Index: uint32(i % 5)}},
	}
}

func messages(from, to int) []store.MessageRow {
	rows := make([]store.MessageRow, 0, to-from)
	for i := from; i < to; i++ {
		rows = append(rows, Message(i))
	}
	return rows
}

// Extremes returns messages at the edges of what history holds: everything empty that may be, text of many bytes, JSON,
// properties that repeat, and the oldest and newest times that a clock may stamp.
func Extremes() []store.MessageRow {
	var rows []store.MessageRow
	add := func(change func(m *store.MessageRow)) {
		i := len(rows)
		m := store.MessageRow{
			Message: telemetry.Message{Tenant: "t", DeviceID: fmt.Sprintf("edge-%d", i), Kind: telemetry.KindEvent, EventTime: 1e18, IngestTime: 1e18},
			Origin:  bus.Origin{Partition: 9, Position: bus.Position{Seq: uint64(i + 1)}},
		}
		change(&m)
		rows = append(rows, m)
	}
	add(func(*store.MessageRow) {})
	add(func(m *store.MessageRow) {
		m.ChannelValue = []byte(`{"Name":"Secvest","Partitions":[{"id":"1","state":"unset"}]}`)
	})
	add(func(m *store.MessageRow) { m.ChannelValue = bytes.Repeat([]byte("größer\n"), 30_000) })
	add(func(m *store.MessageRow) { m.HasValue = true }) // zero is not "no value"
	add(func(m *store.MessageRow) { m.Value, m.HasValue = -1e308, true })
	add(func(m *store.MessageRow) { m.DeviceTime = 4_070_908_800_000_000_000 }) // 2099
	add(func(m *store.MessageRow) { m.EventTime = 978_307_200_000_000_000 })    // 2001
	add(func(m *store.MessageRow) { m.Attributes = []byte(`{"Unit":"°C","n":[1,2]}`) })
	add(func(m *store.MessageRow) {
		m.Properties = []telemetry.Property{{Key: "a", Value: `"quoted"`}, {Key: "b", Value: "\n"}, {Key: "", Value: ""}}
	})
	add(func(m *store.MessageRow) {
		m.Properties = []telemetry.Property{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}
	})
	add(func(m *store.MessageRow) {
		m.Origin.Position = bus.Position{Seq: 1 << 38, Index: 1<<24 - 1}
	})
	return rows
}

// messageText is all that history keeps of a message, so that two messages compare. Severity, text and log source are not
// kept: logs have a table of their own.
func messageText(m store.MessageRow) string {
	value := "none"
	if m.HasValue {
		value = fmt.Sprint(m.Value)
	}
	return fmt.Sprintf("%q", []string{
		m.Tenant, m.DeviceID, m.DeviceType, store.KindName(m.Kind), m.ChannelKey, m.ChannelType, string(m.ChannelValue), value,
		fmt.Sprint(int64(m.EventTime), int64(m.IngestTime), int64(m.DeviceTime)), m.MessageID, m.Source, m.Credential, m.Codec,
		string(store.AppendProperties(nil, m.Properties)), string(m.Attributes), fmt.Sprint(m.Origin),
	})
}

func wantMessages(t *testing.T, got, want []store.MessageRow) {
	t.Helper()
	wantSame(t, got, want, messageText)
}

// wantSame compares two sets of rows by their text.
func wantSame[Row any](t *testing.T, got, want []Row, text func(Row) string) {
	t.Helper()
	g, w := texts(got, text), texts(want, text)
	if slices.Equal(g, w) {
		return
	}
	t.Errorf("%d rows are readable, want %d", len(g), len(w))
	report(t, "not wanted", g, w)
	report(t, "missing", w, g)
}

func report(t *testing.T, what string, have, other []string) {
	t.Helper()
	shown := 0
	for _, s := range have {
		if _, found := slices.BinarySearch(other, s); !found && shown < 3 {
			t.Logf("%s: %.600s", what, s)
			shown++
		}
	}
}

func texts[Row any](rows []Row, text func(Row) string) []string {
	all := make([]string, 0, len(rows))
	for _, r := range rows {
		all = append(all, strings.Clone(text(r)))
	}
	slices.Sort(all)
	return all
}

// different counts rows and complains of doubles.
func different[Row any](t *testing.T, rows []Row, text func(Row) string) int {
	t.Helper()
	all := texts(rows, text)
	n := len(all)
	if all = slices.Compact(all); len(all) != n {
		t.Errorf("%d of %d rows are doubles", n-len(all), n)
	}
	return len(all)
}
