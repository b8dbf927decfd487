package feed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/pkg/telemetry"
)

// decoder holds one record of a stream, decoded, and writes it as JSON. Its fields alias the record. One goroutine at a time.
type decoder struct {
	stream    string
	message   telemetry.Message
	aggregate telemetry.Aggregate
	alarm     telemetry.Alarm
	compact   bytes.Buffer
	json      []byte
}

// decode reads a record of a stream and returns what a filter looks at, aliasing value.
func (d *decoder) decode(stream string, value []byte) (tenant, device, channel string, err error) {
	d.stream = stream
	switch stream {
	case State, Logs:
		err = telemetry.ParseMessage(value, &d.message)
		return d.message.Tenant, d.message.DeviceID, d.message.ChannelKey, err
	case Aggregates:
		err = telemetry.ParseAggregate(value, &d.aggregate)
		return d.aggregate.Tenant, d.aggregate.DeviceID, d.aggregate.ChannelKey, err
	case Alarms:
		err = telemetry.ParseAlarm(value, &d.alarm)
		return d.alarm.Tenant, d.alarm.DeviceID, d.alarm.ChannelKey, err
	}
	return "", "", "", fmt.Errorf("stream %q: %w", stream, ErrFilter)
}

// encode returns what was last decoded as JSON, valid until the next call.
func (d *decoder) encode() []byte {
	w := writer{b: d.json[:0], compact: &d.compact}
	switch d.stream {
	case State:
		w.state(&d.message)
	case Logs:
		w.log(&d.message)
	case Aggregates:
		w.aggregate(&d.aggregate)
	case Alarms:
		w.alarm(&d.alarm)
	}
	d.json = w.b
	return w.b
}

// writer appends JSON objects member by member. Names are ours and need no escapes.
type writer struct {
	b       []byte
	compact *bytes.Buffer
}

func (w *writer) state(m *telemetry.Message) {
	w.text("tenant", m.Tenant)
	w.text("device_id", m.DeviceID)
	w.text("device_type", m.DeviceType)
	w.text("channel_key", m.ChannelKey)
	w.text("channel_type", m.ChannelType)
	w.name("channel_value")
	w.b = appendText(w.b, m.ChannelValue)
	w.name("value")
	if m.HasValue {
		w.b = appendFloat(w.b, m.Value)
	} else {
		w.b = append(w.b, "null"...)
	}
	if len(m.ChannelValue) > 0 && (m.ChannelValue[0] == '{' || m.ChannelValue[0] == '[') {
		w.embed("json", m.ChannelValue)
	}
	w.time("event_time", m.EventTime)
	w.time("ingest_time", m.IngestTime)
	w.text("message_id", m.MessageID)
	w.end()
}

func (w *writer) log(m *telemetry.Message) {
	w.text("tenant", m.Tenant)
	w.text("device_id", m.DeviceID)
	w.text("device_type", m.DeviceType)
	w.text("severity", m.Severity.Name())
	w.text("source", m.LogSource)
	w.text("message", m.Text)
	w.time("event_time", m.EventTime)
	w.time("ingest_time", m.IngestTime)
	w.text("message_id", m.MessageID)
	w.end()
}

func (w *writer) aggregate(a *telemetry.Aggregate) {
	w.text("tenant", a.Tenant)
	w.text("device_id", a.DeviceID)
	w.text("device_type", a.DeviceType)
	w.text("channel_key", a.ChannelKey)
	w.time("window_start", a.WindowStart)
	w.float("window_seconds", time.Duration(a.WindowLength).Seconds())
	w.uint("count", a.Count)
	w.float("min", a.Min)
	w.float("max", a.Max)
	w.float("sum", a.Sum)
	w.float("avg", a.Avg())
	w.float("first", a.First)
	w.float("last", a.Last)
	w.float("p50", a.P50)
	w.float("p95", a.P95)
	w.float("p99", a.P99)
	w.uint("revision", uint64(a.Revision))
	w.name("final")
	w.b = strconv.AppendBool(w.b, a.Final)
	w.end()
}

func (w *writer) alarm(a *telemetry.Alarm) {
	w.text("alarm_id", a.AlarmID)
	w.text("tenant", a.Tenant)
	w.text("rule", a.Rule)
	w.text("device_id", a.DeviceID)
	w.text("channel_key", a.ChannelKey)
	w.text("severity", a.Severity)
	w.text("state", string(a.State))
	w.text("value", a.Value)
	w.text("previous_value", a.PreviousValue)
	w.time("raised_at", a.RaisedAt)
	w.time("acked_at", a.AckedAt)
	w.time("cleared_at", a.ClearedAt)
	if len(a.Detail) > 0 {
		w.embed("detail", a.Detail)
	}
	w.uint("revision", uint64(a.Revision))
	w.end()
}

func (w *writer) name(name string) {
	if len(w.b) == 0 {
		w.b = append(w.b, '{')
	} else {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *writer) end() { w.b = append(w.b, '}') }

func (w *writer) text(name, value string) {
	w.name(name)
	w.b = appendText(w.b, value)
}

func (w *writer) float(name string, value float64) {
	w.name(name)
	w.b = appendFloat(w.b, value)
}

func (w *writer) uint(name string, value uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, value, 10)
}

func (w *writer) time(name string, t telemetry.Time) {
	w.name(name)
	if t == 0 {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = append(w.b, '"')
	w.b = t.Std().AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}

// embed adds raw as it is, but in one line, where it is JSON; else nothing.
func (w *writer) embed(name string, raw []byte) {
	w.compact.Reset()
	if json.Compact(w.compact, raw) != nil || !utf8.Valid(raw) {
		return
	}
	w.name(name)
	w.b = append(w.b, w.compact.Bytes()...)
}

// appendFloat appends the shortest number that is read back as v; null for what JSON has no number for.
func appendFloat(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// appendText appends s as a JSON string in ASCII's printable characters and valid UTF-8; other bytes become U+FFFD.
func appendText[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0 // what is before it is written
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, "\uFFFD"...)
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
