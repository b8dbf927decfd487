package telemetry_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/millrace/millrace/pkg/telemetry"
)

// panel is the alarm panel of the house: what a gateway's Channel message looks like once decoded.
func panel() telemetry.Message {
	return telemetry.Message{
		Tenant: "default", DeviceID: "homecontroller", DeviceType: "RaspberryPiGateway_v1",
		Kind: telemetry.KindChannel, ChannelKey: "status@secvest", ChannelType: "json",
		ChannelValue: []byte(`{"Name":"Secvest","Partitions":[{"id":"1","state":"unset"}]}`),
		EventTime:    1492017920480850700, IngestTime: 1492017920500000000,
		MessageID: "h:0123456789abcdef0123456789abcdef", Source: "mqtt", Credential: "k1", Codec: "channel",
	}
}

// everything has no field at its zero value.
func everything() telemetry.Message {
	m := panel()
	m.Value, m.HasValue = 21.5, true
	m.Severity, m.Text, m.LogSource = telemetry.SeverityCritical, "siren", "Secvest"
	m.DeviceTime = -5
	m.Properties = []telemetry.Property{{Key: "MessageType", Value: "Channel"}, {Key: "empty"}, {Value: "only value"}}
	m.Attributes = []byte(`{"Firmware":"1.2"}`)
	return m
}

func messages() map[string]telemetry.Message {
	long := panel()
	long.Text = string(bytes.Repeat([]byte("x"), 70_000))
	long.Properties = []telemetry.Property{{Key: string(bytes.Repeat([]byte("k"), 200)), Value: "v"}}
	zero := panel()
	zero.ChannelValue, zero.Value, zero.HasValue = []byte("0"), 0, true
	return map[string]telemetry.Message{
		"panel": panel(), "every field": everything(), "nothing": {}, "long": long, "a value of zero": zero,
	}
}

func TestAMessageComesBackAsItWasWritten(t *testing.T) {
	for name, want := range messages() {
		t.Run(name, func(t *testing.T) {
			b := telemetry.AppendMessage(nil, &want)
			var got telemetry.Message
			if err := telemetry.ParseMessage(b, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestEveryFieldOfTheMessageIsInTheTest(t *testing.T) {
	v := reflect.ValueOf(everything())
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Record" && v.Field(i).IsZero() { // Record is not on the bus
			t.Errorf("%s is at its zero value: no test would see it lost", v.Type().Field(i).Name)
		}
	}
}

func TestPeekSeesTheHeader(t *testing.T) {
	m := everything()
	h, err := telemetry.PeekMessage(telemetry.AppendMessage(nil, &m))
	if err != nil {
		t.Fatal(err)
	}
	want := telemetry.Header{
		Tenant: m.Tenant, DeviceID: m.DeviceID, DeviceType: m.DeviceType, ChannelKey: m.ChannelKey, MessageID: m.MessageID,
		Kind: m.Kind, Severity: m.Severity, EventTime: m.EventTime, IngestTime: m.IngestTime,
	}
	if h != want {
		t.Fatalf("got %+v, want %+v", h, want)
	}
}

func TestACloneOutlivesTheRecord(t *testing.T) {
	want := everything()
	b := telemetry.AppendMessage(nil, &want)
	var m telemetry.Message
	if err := telemetry.ParseMessage(b, &m); err != nil {
		t.Fatal(err)
	}
	c := m.Clone()
	for i := range b {
		b[i] = 'x'
	}
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("got %+v, want %+v", c, want)
	}
	if reflect.DeepEqual(m, want) {
		t.Fatal("the parsed message does not alias its record: this test proves nothing")
	}
}

func TestWhatIsNoProtobufIsRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"field number 0":            {0x00, 0x01},
		"cut tag":                   {0x80},
		"cut number":                {4 << 3, 0x80},
		"cut length":                {1<<3 | 2, 0x80},
		"length beyond the end":     {1<<3 | 2, 5, 'a'},
		"enormous length":           {1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"number of more than 64 b":  {4 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"cut fixed64":               {11<<3 | 1, 1, 2, 3},
		"cut fixed32":               {31<<3 | 5},
		"wire type 6":               {1<<3 | 6},
		"end of group":              {1<<3 | 4},
		"group without end":         {1<<3 | 3, 8, 1},
		"property cut within":       {0x92, 0x01, 2, 1<<3 | 2, 5},
		"field number beyond limit": {0xf8, 0xff, 0xff, 0xff, 0xff, 0x01, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var m telemetry.Message
			err := telemetry.ParseMessage(b, &m)
			if !errors.Is(err, telemetry.ErrWire) {
				t.Fatalf("got %v, want ErrWire", err)
			}
		})
	}
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	want := panel()
	b := []byte{0xa8, 0x06, 7} // field 101, a number
	b = append(b, 0xb2, 0x06, 2, 'h', 'i')
	b = append(b, 0xbb, 0x06, 8, 1, 0xbc, 0x06) // group 103
	b = append(b, 0xc5, 0x06, 1, 2, 3, 4)       // fixed32
	b = append(b, 1<<3, 9)                      // tenant as a number: a newer schema would not, a hostile sender may
	b = telemetry.AppendMessage(b, &want)
	var got telemetry.Message
	if err := telemetry.ParseMessage(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestAKindOfANewerSchemaIsUnknown(t *testing.T) {
	var m telemetry.Message
	if err := telemetry.ParseMessage([]byte{4 << 3, 200, 1, 9 << 3, 200, 1}, &m); err != nil {
		t.Fatal(err)
	}
	if m.Kind != telemetry.KindUnknown || m.Severity != telemetry.SeverityNone {
		t.Fatalf("kind %d, severity %d, want 0 and 0", m.Kind, m.Severity)
	}
}

func aggregate() telemetry.Aggregate {
	return telemetry.Aggregate{
		Tenant: "default", DeviceID: "thermostat1", DeviceType: "Thermostat", ChannelKey: "temperature",
		WindowStart: 1492017920000000000, WindowLength: 10e9, Count: 7, Min: -1, Max: 22.5, Sum: 100.25, First: 20, Last: 22.5,
		P50: 20.5, P95: 22, P99: 22.4, Revision: 2, Final: true, FirstTime: 1492017920000000001, LastTime: 1492017929000000000,
	}
}

func TestAnAggregateComesBackAsItWasWritten(t *testing.T) {
	odd := aggregate()
	odd.Min, odd.Max, odd.Final, odd.WindowLength = math.Inf(-1), math.Copysign(0, -1), false, -1
	for _, want := range []telemetry.Aggregate{aggregate(), odd, {}} {
		b := telemetry.AppendAggregate(nil, &want)
		got := telemetry.Aggregate{Tenant: "stale"}
		if err := telemetry.ParseAggregate(b, &got); err != nil {
			t.Fatal(err)
		}
		c := got.Clone()
		clear(b)
		if c != want || math.Signbit(c.Max) != math.Signbit(want.Max) {
			t.Fatalf("got %+v, want %+v", c, want)
		}
	}
	if err := telemetry.ParseAggregate([]byte{1<<3 | 2, 9}, &odd); !errors.Is(err, telemetry.ErrWire) {
		t.Fatalf("got %v, want ErrWire", err)
	}
}

func alarm() telemetry.Alarm {
	return telemetry.Alarm{
		AlarmID: "a1", Tenant: "default", Rule: "intrusion", DeviceID: "homecontroller", ChannelKey: "status@secvest",
		Severity: "critical", State: telemetry.AlarmAcknowledged, Value: "alarm", PreviousValue: "set",
		RaisedAt: 1, AckedAt: 2, ClearedAt: 3, Detail: []byte(`{"by":"ada"}`), Revision: 4,
	}
}

func TestAnAlarmComesBackAsItWasWritten(t *testing.T) {
	for _, want := range []telemetry.Alarm{alarm(), {}} {
		b := telemetry.AppendAlarm(nil, &want)
		got := telemetry.Alarm{Rule: "stale"}
		if err := telemetry.ParseAlarm(b, &got); err != nil {
			t.Fatal(err)
		}
		c := got.Clone()
		clear(b)
		if !reflect.DeepEqual(c, want) {
			t.Fatalf("got %+v, want %+v", c, want)
		}
	}
	if err := telemetry.ParseAlarm([]byte{0}, &telemetry.Alarm{}); !errors.Is(err, telemetry.ErrWire) {
		t.Fatalf("got %v, want ErrWire", err)
	}
}

func deadLetter() telemetry.DeadLetter {
	return telemetry.DeadLetter{
		Topic: "mqtt", Worker: "ingest", Reason: "ChannelKey: missing", Payload: []byte{0xff, 0, 1}, ReceivedAt: 5,
		Tenant: "default", DeviceID: "d1", Partition: -3, Position: "81.5", Credential: "k1",
		Context: `{"origin":"1.81.5"}`, ReplayOf: "3.7.0", ReplayedBy: "ada", ReplayedAt: 9, Deliver: true, Repaired: []byte{1},
	}
}

func TestADeadLetterComesBackAsItWasWritten(t *testing.T) {
	for _, want := range []telemetry.DeadLetter{deadLetter(), {}} {
		b := telemetry.AppendDeadLetter(nil, &want)
		got := telemetry.DeadLetter{Topic: "stale"}
		if err := telemetry.ParseDeadLetter(b, &got); err != nil {
			t.Fatal(err)
		}
		c := got.Clone()
		clear(b)
		if !reflect.DeepEqual(c, want) {
			t.Fatalf("got %+v, want %+v", c, want)
		}
	}
	if err := telemetry.ParseDeadLetter([]byte{0}, &telemetry.DeadLetter{}); !errors.Is(err, telemetry.ErrWire) {
		t.Fatalf("got %v, want ErrWire", err)
	}
}

func TestAReasonThatQuotesRubbishStaysReadable(t *testing.T) {
	var got telemetry.DeadLetter
	if err := telemetry.ParseDeadLetter(telemetry.AppendDeadLetter(nil, &telemetry.DeadLetter{Reason: "at \xff"}), &got); err != nil {
		t.Fatal(err)
	}
	if got.Reason != "at \uFFFD" {
		t.Fatalf("got %q", got.Reason)
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	m := everything()
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = telemetry.AppendMessage(dst[:0], &m)
	}
}

func BenchmarkParseMessage(b *testing.B) {
	for name, m := range map[string]telemetry.Message{"typical": panel(), "every field": everything()} {
		b.Run(name, func(b *testing.B) {
			rec := telemetry.AppendMessage(nil, &m)
			b.ReportAllocs()
			for b.Loop() {
				if err := telemetry.ParseMessage(rec, &m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPeekMessage(b *testing.B) {
	m := everything()
	rec := telemetry.AppendMessage(nil, &m)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := telemetry.PeekMessage(rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCloneMessage(b *testing.B) {
	m := everything()
	b.ReportAllocs()
	for b.Loop() {
		m = m.Clone()
	}
}
