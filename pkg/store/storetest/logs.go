package storetest

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// LogStore is a store of logs under test.
type LogStore struct {
	store.LogWriter
	Read  func(t *testing.T) []store.MessageRow // all rows of logs, in any order
	Crash func(t *testing.T) LogStore
}

// Logs holds a store.LogWriter to its promises.
func Logs(t *testing.T, open func(t *testing.T) LogStore) {
	var wrap func(s LogStore) harness[store.MessageRow]
	wrap = func(s LogStore) harness[store.MessageRow] {
		return harness[store.MessageRow]{
			Writer: s.LogWriter,
			row:    LogLine,
			count:  func(t *testing.T) int { return different(t, s.Read(t), logText) },
			crash:  func(t *testing.T) harness[store.MessageRow] { return wrap(s.Crash(t)) },
			flush:  func(*testing.T) {},
		}
	}
	writerPromises(t, func(t *testing.T) harness[store.MessageRow] { return wrap(open(t)) })
	t.Run("every column comes back as it was written", func(t *testing.T) {
		s := open(t)
		var want []store.MessageRow
		for i := range 30 {
			want = append(want, LogLine(i))
		}
		want[3].Text, want[4].LogSource, want[5].MessageID = "größer\n\t\"x\" \\ '", "a.b/c", ""
		writeAll(t, s, want...)
		wantSame(t, s.Read(t), want, logText)
		wantSame(t, s.Crash(t).Read(t), want, logText)
	})
}

// LogLine returns the i-th of many log lines, all different.
func LogLine(i int) store.MessageRow {
	m := Message(i)
	m.Kind, m.ChannelKey, m.ChannelType, m.ChannelValue, m.Value, m.HasValue = telemetry.KindLog, "", "", nil, 0, false
	m.Severity = telemetry.SeverityTrace + telemetry.Severity(i%6)
	m.Text, m.LogSource = fmt.Sprintf("line %d", i), fmt.Sprintf("part-%d", i%3)
	return m
}

func logText(m store.MessageRow) string {
	return fmt.Sprintf("%q", []string{
		m.Tenant, m.DeviceID, m.DeviceType, fmt.Sprint(uint8(m.Severity)), m.LogSource, m.Text,
		fmt.Sprint(int64(m.EventTime), int64(m.IngestTime)), m.MessageID, fmt.Sprint(m.Origin),
	})
}
