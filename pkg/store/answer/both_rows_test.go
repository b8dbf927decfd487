package answer_test

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// makeRows returns two days of a house: temperatures every five minutes, with gaps, heating, windows, an alarm panel, their logs,
// alarms and windows of an hour. Times lie off the boundaries that
// queries draw from the clock, by half a minute at least: it goes on while they are asked.
func makeRows(now time.Time) *house {
	h := &house{}
	begin := now.Truncate(time.Second).Add(-48*time.Hour + 150*time.Second + 480_850_700)
	for device := range 4 {
		id := fmt.Sprintf("thermostat-%d", device+1)
		for i := range 576 {
			if i%97 > 90 && device%2 == 0 { // silent for half an hour
				continue
			}
			at := begin.Add(time.Duration(i) * 5 * time.Minute)
			value := math.Round(1000*(20+3*math.Sin(float64(i)/20+float64(device)))) / 1000
			h.say(at, id, "LabThermostat_v4", "temperature", "number", strconv.FormatFloat(value, 'g', -1, 64), &value)
			if i%30 == device {
				on := float64(i / 30 % 2)
				h.say(at.Add(-time.Second), id, "LabThermostat_v4", "heating", "boolean", strconv.FormatBool(on == 1), &on)
			}
		}
	}
	for i := range 40 {
		h.say(begin.Add(time.Duration(i)*71*time.Minute), fmt.Sprintf("window-%d", i%3), "Contact", "window", "text", []string{"open", "closed"}[i/3%2], nil)
	}
	for i := range 20 {
		state := []string{"unset", "set"}[i%2]
		h.say(begin.Add(time.Duration(i)*143*time.Minute), "homecontroller", "RaspberryPiGateway_v1", "status@secvest", "json",
			fmt.Sprintf(`{"Name":"Secvest \"größer\"","Partitions":[{"id":"1","state":"%s"},{"id":"2","state":"unset"}],"n":%d}`, state, i), nil)
	}
	h.connect(begin, now)
	h.logs(begin)
	h.aggregate(begin.Truncate(time.Hour))
	h.raise(begin)
	for i := range 9 {
		h.letters = append(h.letters, store.DeadLetterRow{
			At: bus.Origin{Position: bus.Position{Seq: uint64(i + 1)}},
			DeadLetter: telemetry.DeadLetter{
				Topic: "mqtt", Worker: "ingest", Reason: []string{"line 1: no channel key", "not JSON"}[i%2], Payload: fmt.Appendf(nil, `{"a":%d`, i),
				ReceivedAt: telemetry.At(begin.Add(time.Duration(i) * time.Hour)), Tenant: "default", DeviceID: fmt.Sprintf("thermostat-%d", i%3),
			},
		})
	}
	return h
}

func (h *house) origin() bus.Origin {
	n := len(h.messages) + len(h.sessions) + len(h.lines)
	return bus.Origin{Partition: int32(n % 4), Position: bus.Position{Seq: uint64(n + 1)}}
}

func (h *house) say(at time.Time, device, deviceType, channel, channelType, text string, value *float64) {
	m := store.MessageRow{Origin: h.origin(), Message: telemetry.Message{
		Tenant: "default", DeviceID: device, DeviceType: deviceType, Kind: telemetry.KindChannel, ChannelKey: channel, ChannelType: channelType,
		ChannelValue: []byte(text), EventTime: telemetry.At(at), IngestTime: telemetry.At(at.Add(time.Duration(len(h.messages)%1000) * time.Millisecond)),
		Source: "mqtt", Codec: "channel",
	}}
	if value != nil {
		m.Value, m.HasValue, m.MessageID = *value, true, fmt.Sprintf("id-%d", len(h.messages))
	}
	h.messages = append(h.messages, m)
}

func (h *house) connect(begin, now time.Time) {
	for i, device := range []string{"thermostat-1", "thermostat-2", "homecontroller"} {
		for _, s := range []struct {
			at   time.Time
			text string
		}{
			{begin, `{"connected":true,"address":"10.0.0.7:5","client_id":"c","protocol":"mqtt5"}`},
			{now.Add(-time.Hour), `{"connected":false,"reason":"keep-alive timeout"}`},
		} {
			if i == 0 && s.at != begin {
				continue
			}
			h.sessions = append(h.sessions, store.MessageRow{Origin: h.origin(), Message: telemetry.Message{
				Tenant: "default", DeviceID: device, Kind: telemetry.KindSession, ChannelValue: []byte(s.text),
				EventTime: telemetry.At(s.at), IngestTime: telemetry.At(s.at),
			}})
		}
	}
}

func (h *house) logs(begin time.Time) {
	texts := []string{"started", "slow answer", "Zone 100% open", "storage is full", "zone 2 is OPEN", "Größer als vorher"}
	for i := range 240 {
		at := telemetry.At(begin.Add(time.Duration(i) * 11 * time.Minute / 2))
		h.lines = append(h.lines, store.MessageRow{Origin: h.origin(), Message: telemetry.Message{
			Tenant: "default", DeviceID: []string{"homecontroller", "thermostat-1"}[i%2], Kind: telemetry.KindLog, Text: texts[i%len(texts)], LogSource: "main",
			Severity: telemetry.SeverityTrace + telemetry.Severity(i%7%6), EventTime: at, IngestTime: at,
		}})
	}
}

func (h *house) aggregate(begin time.Time) {
	for i := range 96 {
		mean := 20 + 3*math.Sin(float64(i)/5)
		start := telemetry.At(begin.Add(time.Duration(i/2) * time.Hour))
		h.windows = append(h.windows, store.AggregateRow{Aggregate: telemetry.Aggregate{
			Tenant: "default", DeviceID: fmt.Sprintf("thermostat-%d", i%2+1), ChannelKey: "temperature", WindowStart: start, WindowLength: int64(time.Hour),
			Count: uint64(10 + i%3), Min: mean - 1, Max: mean + 1, Sum: mean * float64(10+i%3), First: mean, Last: mean, P50: mean, P95: mean + 0.5, P99: mean + 0.9,
			Revision: 1, Final: true, FirstTime: start + 1, LastTime: start + 2,
		}, StateUntil: start})
	}
}

func (h *house) raise(begin time.Time) {
	for i := range 14 {
		a := telemetry.Alarm{
			AlarmID: fmt.Sprintf("alarm-%02d", i), Tenant: "default", Rule: []string{"panel-alarm", "window-open"}[i%2], DeviceID: []string{"homecontroller", "window-1", "thermostat-3"}[i%3],
			ChannelKey: "status", Severity: []string{"critical", "warning"}[i%2], State: telemetry.AlarmRaised, Value: "x",
			RaisedAt: telemetry.At(begin.Add(time.Duration(i) * 97 * time.Minute)), Revision: 1,
		}
		if i%3 != 0 {
			a.State, a.AckedAt, a.Revision = telemetry.AlarmAcknowledged, a.RaisedAt.Add(time.Duration(i)*time.Second), 2
		}
		if i%4 == 1 {
			a.State, a.ClearedAt, a.Revision = telemetry.AlarmCleared, a.RaisedAt.Add(time.Duration(i)*time.Minute), 3
		}
		h.alarms = append(h.alarms, a)
	}
}
