package storetest

import (
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// record is a row of a table as a Reader must show it: nil, string, bool, int64, float64 or telemetry.Time by column.
type record map[string]any

const selectBase telemetry.Time = 1_492_016_720_480_850_701 // the last digit is lost by whoever keeps less than nanoseconds

// oddNames are names that sort and match differently wherever a comparison is not byte by byte, or a pattern gets through.
func oddNames() []string {
	return []string{"a", "A", "b", "B-2", "a_1", "ab1", "a%1", `a\1`, "o'neil", `"quoted"`, "größer", "Größer", "~", "zz 9"}
}

// selectMessages returns messages of channels and events, groups of four at the same event time.
func selectMessages() []store.MessageRow {
	names := oddNames()
	var rows []store.MessageRow
	for i := range 42 {
		m := Message(i)
		m.DeviceID, m.ChannelKey = names[i%len(names)], fmt.Sprintf("channel-%d", i/len(names))
		m.EventTime = selectBase + telemetry.Time(i/4)
		m.IngestTime = m.EventTime + second
		m.MessageID = fmt.Sprintf("id-%d", i)
		switch i % 5 {
		case 1:
			m.Value, m.HasValue, m.ChannelType, m.ChannelValue = 0, false, "json", fmt.Appendf(nil, `{"n":%d,"text":"größer \"%%\""}`, i)
		case 2:
			m.Kind, m.DeviceTime = telemetry.KindEvent, m.EventTime+3600*second
			m.Properties, m.Attributes = []telemetry.Property{{Key: "a", Value: `"`}}, []byte(`{"unit":"°C"}`)
		case 3:
			m.Tenant, m.MessageID, m.DeviceType = "other", "", ""
		}
		rows = append(rows, m)
	}
	return rows
}

func orNull(t telemetry.Time) any {
	if t == 0 {
		return nil
	}
	return t
}

func jsonOrNull(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return string(b)
}

func packed(p bus.Position) int64 {
	n, err := store.PackPosition(p)
	if err != nil {
		panic(err) // the suite's own rows
	}
	return n
}

func stateRecord(m *store.MessageRow) record {
	r := record{
		"tenant": m.Tenant, "device_id": m.DeviceID, "device_type": m.DeviceType, "channel_key": m.ChannelKey, "channel_type": m.ChannelType,
		"channel_value": string(m.ChannelValue), "value": nil, "event_time": m.EventTime, "ingest_time": m.IngestTime, "message_id": m.MessageID,
		"origin_partition": int64(m.Origin.Partition), "origin_position": packed(m.Origin.Position),
	}
	if m.HasValue {
		r["value"] = m.Value
	}
	return r
}

func messageRecord(m *store.MessageRow) record {
	r := stateRecord(m)
	r["kind"], r["device_time"] = store.KindName(m.Kind), orNull(m.DeviceTime)
	r["properties"], r["attributes"] = jsonOrNull(store.AppendProperties(nil, m.Properties)), jsonOrNull(m.Attributes)
	r["source"], r["credential"], r["codec"] = m.Source, m.Credential, m.Codec
	return r
}

// selectSessions returns the session messages of three devices that send nothing else, and all devices as they must be shown.
func selectSessions(seen []store.MessageRow) (sessions []store.MessageRow, devices []record) {
	type key struct{ tenant, device string }
	by := map[key]record{}
	for i := range seen {
		m := &seen[i]
		r := by[key{m.Tenant, m.DeviceID}]
		if r == nil {
			r = record{
				"tenant": m.Tenant, "device_id": m.DeviceID, "device_type": m.DeviceType, "first_seen": m.IngestTime, "connected": nil, "connected_since": nil,
				"disconnected_at": nil, "disconnect_reason": "", "address": "", "client_id": "", "protocol": "", "credential": "",
			}
			by[key{m.Tenant, m.DeviceID}] = r
			devices = append(devices, r)
		}
		r["last_seen"] = m.IngestTime
	}
	say := func(device string, at telemetry.Time, seq uint64, value string) {
		sessions = append(sessions, store.MessageRow{
			Message: telemetry.Message{
				Tenant: "default", DeviceID: device, Kind: telemetry.KindSession, EventTime: at, IngestTime: at, ChannelValue: []byte(value), Credential: "key-7",
			},
			Origin: bus.Origin{Position: bus.Position{Seq: seq}},
		})
	}
	for i, device := range []string{"line-1", "line-2", "line-3"} {
		at, seq := selectBase+telemetry.Time(i), uint64(1000+2*i)
		r := record{
			"tenant": "default", "device_id": device, "device_type": "", "first_seen": at, "last_seen": at, "connected": true, "connected_since": at,
			"disconnected_at": nil, "disconnect_reason": "", "address": "1.2.3.4:555", "client_id": "c", "protocol": "mqtt5", "credential": "key-7",
		}
		say(device, at, seq, `{"connected":true,"address":"1.2.3.4:555","client_id":"c","protocol":"mqtt5"}`)
		if i == 2 {
			say(device, at+5, seq+1, `{"connected":false,"reason":"keep-alive timeout"}`)
			r["connected"], r["disconnected_at"], r["disconnect_reason"] = false, at+5, "keep-alive timeout" // it was not the device that spoke
		}
		devices = append(devices, r)
	}
	return sessions, devices
}

func selectAggregates() (rows []store.AggregateRow, shown []record) {
	for i := range 30 {
		a := aggregate(i)
		a.DeviceID, a.ChannelKey = oddNames()[i%7], fmt.Sprintf("c-%d", i%2)
		a.WindowStart = selectBase + telemetry.Time(i/10)
		a.FirstTime, a.LastTime = a.WindowStart+1, a.WindowStart+9
		if i%3 == 1 {
			a.WindowLength, a.Tenant = 2_500_000_000, "other"
		}
		rows = append(rows, a)
		shown = append(shown, record{
			"tenant": a.Tenant, "device_id": a.DeviceID, "channel_key": a.ChannelKey, "window_start": a.WindowStart,
			"window_seconds": float64(a.WindowLength) / second, "count": int64(a.Count), "min": a.Min, "max": a.Max, "sum": a.Sum, "avg": a.Avg(),
			"first": a.First, "last": a.Last, "p50": a.P50, "p95": a.P95, "p99": a.P99, "revision": int64(a.Revision), "device_type": a.DeviceType,
			"first_time": a.FirstTime, "last_time": a.LastTime, "window_length_ns": a.WindowLength,
		})
	}
	return rows, shown
}

func selectAlarms() (rows []telemetry.Alarm, shown []record) {
	names := oddNames()
	for i := range 28 {
		a := alarm(i)
		a.AlarmID, a.DeviceID, a.RaisedAt = fmt.Sprintf("%s/%d", names[i%len(names)], i/len(names)), names[(i+3)%len(names)], selectBase+telemetry.Time(i/9)
		switch i % 4 {
		case 1:
			a.State, a.AckedAt, a.Revision, a.Detail = telemetry.AlarmAcknowledged, a.RaisedAt+5, 2, nil
		case 2:
			a.State, a.AckedAt, a.ClearedAt, a.Revision = telemetry.AlarmCleared, a.RaisedAt+5, a.RaisedAt+9, 3
		case 3:
			a.Severity, a.ChannelKey, a.PreviousValue, a.Tenant = "warning", "", "", "other"
		}
		rows = append(rows, a)
		shown = append(shown, record{
			"alarm_id": a.AlarmID, "tenant": a.Tenant, "rule": a.Rule, "device_id": a.DeviceID, "channel_key": a.ChannelKey, "severity": a.Severity,
			"state": string(a.State), "value": a.Value, "raised_at": a.RaisedAt, "acked_at": orNull(a.AckedAt), "cleared_at": orNull(a.ClearedAt),
			"detail": jsonOrNull(a.Detail), "previous_value": a.PreviousValue, "revision": int64(a.Revision),
		})
	}
	return rows, shown
}

func selectLogs() (rows []store.MessageRow, shown []record) {
	texts := []string{
		"Valve 100% open", "valve 1000 open", `path C:\temp\new`, "it's \"quoted\"", "under_score", "underXscore", "GRÖSSER als vorher", "größer",
		"'; DROP TABLE logs; --", "line\nbreak\ttab", "{{brace}} ${x} ?", "",
	}
	for i := range 36 {
		m := LogLine(i)
		m.Text, m.DeviceID = texts[i%len(texts)], oddNames()[i%5]
		m.EventTime = selectBase + telemetry.Time(i/6)
		m.IngestTime = m.EventTime + second
		if i%3 == 1 {
			m.LogSource, m.Tenant = "", "other"
		}
		rows = append(rows, m)
		shown = append(shown, record{
			"tenant": m.Tenant, "device_id": m.DeviceID, "device_type": m.DeviceType, "severity": m.Severity.Name(), "source": m.LogSource, "message": m.Text,
			"event_time": m.EventTime, "ingest_time": m.IngestTime, "message_id": m.MessageID,
			"origin_partition": int64(m.Origin.Partition), "origin_position": packed(m.Origin.Position),
		})
	}
	return rows, shown
}

func selectDeadLetters() (rows []store.DeadLetterRow, shown []record) {
	for i := range 20 {
		d := deadLetter(i)
		d.ReceivedAt = selectBase + telemetry.Time(i/6)
		if i%3 == 1 { // a letter of the edge, which stems from no record
			d.Topic, d.Worker, d.Partition, d.Position, d.DeviceID = "mqtt", "ingest", 0, "", ""
		}
		rows = append(rows, d)
		shown = append(shown, record{
			"topic": d.Topic, "worker": d.Worker, "reason": d.Reason, "payload": string(d.Payload), "received_at": d.ReceivedAt, "tenant": d.Tenant,
			"device_id": d.DeviceID, "credential": d.Credential, "partition": int64(d.Partition), "position": d.Position,
		})
	}
	return rows, shown
}
