package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/millrace/millrace/pkg/telemetry"
)

func fieldSize(tb testing.TB, b []byte) int {
	tb.Helper()
	_, _, n := protowire.ConsumeField(b)
	if n < 0 {
		tb.Fatal(protowire.ParseError(n))
	}
	return n
}

// What protobuf's own reader takes, ours takes with the same content, and what ours takes can be written and read again.
func FuzzParseMessage(f *testing.F) {
	for _, m := range messages() {
		f.Add(telemetry.AppendMessage(nil, &m))
	}
	f.Add([]byte{0xbb, 0x06, 8, 1, 0xbc, 0x06})
	desc := schema(f).Messages().ByName("Message")
	f.Fuzz(func(t *testing.T, b []byte) {
		var m telemetry.Message
		err := telemetry.ParseMessage(b, &m)
		if _, peekErr := telemetry.PeekMessage(b); err == nil && peekErr != nil {
			t.Fatalf("read, and yet the header cannot be: %v", peekErr)
		}
		theirs := dynamicpb.NewMessage(desc)
		theirErr := proto.Unmarshal(b, theirs)
		if err != nil {
			if !errors.Is(err, telemetry.ErrWire) {
				t.Fatalf("%v is no ErrWire", err)
			}
			if theirErr == nil {
				t.Fatalf("protobuf reads it, we do not: %v", err)
			}
			return
		}
		again := telemetry.AppendMessage(nil, &m)
		var back telemetry.Message
		if err := telemetry.ParseMessage(again, &back); err != nil {
			t.Fatal(err)
		}
		if c := back.Clone(); !bytes.Equal(telemetry.AppendMessage(nil, &c), again) {
			t.Fatal("a second writing differs from the first")
		}
		if theirErr != nil {
			return // strings that are no UTF-8: whoever writes sees to that
		}
		ours := dynamicpb.NewMessage(desc)
		if err := proto.Unmarshal(again, ours); err != nil {
			t.Fatal(err)
		}
		theirs.SetUnknown(nil)
		compareKnown(t, ours, theirs, &m)
	})
}

// compareKnown compares but for enum values that only a newer schema knows and unknown fields within properties.
func compareKnown(t *testing.T, ours, theirs *dynamicpb.Message, m *telemetry.Message) {
	t.Helper()
	fields := theirs.Descriptor().Fields()
	for _, name := range []string{"kind", "severity"} {
		f := fields.ByTextName(name)
		if n := theirs.Get(f).Enum(); n < 0 || f.Enum().Values().ByNumber(n) == nil {
			theirs.Clear(f)
		}
	}
	props := theirs.Get(fields.ByTextName("properties")).List()
	for i := range props.Len() {
		props.Get(i).Message().SetUnknown(nil)
	}
	if math.IsNaN(m.Value) {
		return
	}
	if !proto.Equal(ours, theirs) {
		t.Fatalf("we read %v, protobuf reads %v", ours, theirs)
	}
}

func FuzzParseOthers(f *testing.F) {
	g, a, d := aggregate(), alarm(), deadLetter()
	f.Add(telemetry.AppendAggregate(nil, &g))
	f.Add(telemetry.AppendAlarm(nil, &a))
	f.Add(telemetry.AppendDeadLetter(nil, &d))
	f.Fuzz(func(t *testing.T, b []byte) {
		if telemetry.ParseAggregate(b, &g) == nil && !reflect.DeepEqual(len(telemetry.AppendAggregate(nil, &g)) > 0, g != telemetry.Aggregate{}) {
			t.Fatal("an aggregate that is not zero is written as nothing, or the other way round")
		}
		if telemetry.ParseAlarm(b, &a) == nil {
			_ = a.Clone()
		}
		if telemetry.ParseDeadLetter(b, &d) == nil {
			var back telemetry.DeadLetter
			if err := telemetry.ParseDeadLetter(telemetry.AppendDeadLetter(nil, &d), &back); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(back.Payload, d.Payload) {
				t.Fatal("a payload changed on its way")
			}
		}
	})
}

// Whatever comes, nothing panics, what is a message is whole, and what is refused has a reason. Every byte that is no white
// space is in a message or in a refusal.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.in.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var g goldenInput
		if err := json.Unmarshal(b, &g); err != nil {
			f.Fatal(err)
		}
		for _, l := range g.Lines {
			f.Add([]byte(l), g.ContentType, g.Channel)
		}
		f.Add([]byte(g.Body), g.ContentType, g.Channel)
	}
	d := telemetry.NewDecoder(telemetry.Options{TimeField: "meta.ts", DecimalComma: map[string]bool{"": true}})
	f.Fuzz(func(t *testing.T, body []byte, contentType, channel string) {
		in := telemetry.Input{Body: body, ContentType: contentType, ChannelKey: channel, DeviceID: "d1", IngestTime: ingestTime}
		messages, rejected := d.Decode(nil, in)
		if len(messages)+len(rejected) == 0 && !bytes.Contains(body, []byte(`"b`)) { // base fields alone are no message
			t.Fatal("neither a message nor a refusal")
		}
		for i := range messages {
			checkWhole(t, &messages[i])
		}
		for _, r := range rejected {
			if r.Err == nil || r.Err.Error() == "" {
				t.Fatal("refused without a reason")
			}
		}
		again, _ := d.Decode(nil, in)
		if !reflect.DeepEqual(len(again), len(messages)) {
			t.Fatal("the same body gives other messages")
		}
		for i := range again {
			a, b := telemetry.AppendMessage(nil, &messages[i]), telemetry.AppendMessage(nil, &again[i])
			if !bytes.Equal(a, b) {
				t.Fatal("the same body gives another message")
			}
		}
	})
}

func checkWhole(t *testing.T, m *telemetry.Message) {
	t.Helper()
	if m.DeviceID == "" || m.Tenant == "" || m.EventTime == 0 || m.IngestTime == 0 || m.Codec == "" || m.Kind == telemetry.KindUnknown {
		t.Fatalf("not whole: %+v", m)
	}
	if m.Kind != telemetry.KindLog && (m.ChannelKey == "" || m.ChannelType == "" && len(m.ChannelValue) == 0) {
		t.Fatalf("a channel without a name or a value: %+v", m)
	}
	if m.HasValue && (math.IsNaN(m.Value) || math.IsInf(m.Value, 0)) {
		t.Fatalf("no number: %+v", m)
	}
	if len(m.Attributes) > 0 && !json.Valid(m.Attributes) {
		t.Fatalf("attributes are no JSON: %s", m.Attributes)
	}
	for _, s := range []string{m.DeviceType, m.ChannelKey, m.ChannelType, string(m.ChannelValue), m.Text, m.LogSource, m.MessageID} {
		if !utf8.ValidString(s) {
			t.Fatalf("no UTF-8: %q", s)
		}
	}
}

// What our JSON reader takes, encoding/json takes as well and sees the same members.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"a":"\u00e4\ud83d\ude00\n"}`, `{"a":[{"b":-1.5e+3},null,true]}`, `{"a":1,"a":2}`, panelJSON, flatJSON} {
		f.Add([]byte(s))
	}
	d := telemetry.NewDecoder(telemetry.Options{})
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, rejected := d.Decode(nil, telemetry.Input{Body: body, DeviceID: "d1", IngestTime: ingestTime})
		trimmed := bytes.TrimSpace(body)
		if len(rejected) > 0 || len(messages) == 0 || messages[0].Codec != "json" || trimmed[0] != '{' {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(body))
		for i := 0; i < len(messages); {
			var members map[string]json.RawMessage
			if err := dec.Decode(&members); err != nil {
				t.Fatalf("we take it, encoding/json does not: %v", err)
			}
			for range members {
				if i == len(messages) {
					break
				}
				raw, ok := members[messages[i].ChannelKey]
				if !ok {
					break
				}
				compareValue(t, raw, &messages[i])
				i++
			}
			if len(members) == 0 || dec.More() {
				return // several texts, or members that are no channels: the first object was compared
			}
		}
	})
}

func compareValue(t *testing.T, raw json.RawMessage, m *telemetry.Message) {
	t.Helper()
	var text string
	if json.Unmarshal(raw, &text) == nil && raw[0] == '"' {
		if text != string(m.ChannelValue) {
			t.Fatalf("string %q, encoding/json reads %q", m.ChannelValue, text)
		}
		return
	}
	if !bytes.Equal(raw, m.ChannelValue) {
		t.Fatalf("value %q, encoding/json has %q", m.ChannelValue, raw)
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2017-04-12T17:05:20.4808507Z", "1492017920480", "1.276020076001e+09", "0001-01-01T00:00:00", "-1", "2016-12-31T23:59:60Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := telemetry.ParseTime(s, nil)
		if err != nil {
			return
		}
		if got == 0 {
			t.Fatal("a time that was read is 0, which means not known")
		}
		compareWithStdlib(t, s, got)
	})
}

func FuzzTopicProperties(f *testing.F) {
	f.Add("MessageType=Channel&%24.mid=7&a=b%20c&empty&=x")
	f.Fuzz(func(t *testing.T, s string) {
		props, err := telemetry.PropertiesFromTopic(s)
		if err == nil && len(props) > telemetry.PropertiesMax {
			t.Fatal("more than the limit")
		}
		for _, p := range props {
			if p.Key == "" || !utf8.ValidString(p.Key) || !utf8.ValidString(p.Value) {
				t.Fatalf("%q", p)
			}
		}
	})
}
