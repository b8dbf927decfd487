package telemetry_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/telemetry"
)

func TestDeviceIDs(t *testing.T) {
	for _, id := range []string{"d", "homecontroller", "urn:dev:ow:10e2073a01080063", "Gerät 7", strings.Repeat("x", 128), "a$b"} {
		if err := telemetry.ValidDeviceID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", "a/b", "a+", "#", "$SYS", "a\x00", "a\n", "a\x7f", "a\u0085", "\xff", strings.Repeat("x", 129)} {
		if err := telemetry.ValidDeviceID(id); err == nil {
			t.Errorf("%q is a device id", id)
		}
	}
}

func TestSeveritiesWhateverTheirCase(t *testing.T) {
	for text, want := range map[string]telemetry.Severity{
		"Debug": telemetry.SeverityDebug, "DEBUG": telemetry.SeverityDebug, "verbose": telemetry.SeverityTrace, "Trace": telemetry.SeverityTrace,
		"Info": telemetry.SeverityInfo, "information": telemetry.SeverityInfo, "Informational": telemetry.SeverityInfo,
		"warn": telemetry.SeverityWarning, " Warning ": telemetry.SeverityWarning, "ERR": telemetry.SeverityError, "Error": telemetry.SeverityError,
		"Critical": telemetry.SeverityCritical, "Critial": telemetry.SeverityCritical, "critial": telemetry.SeverityCritical, "FATAL": telemetry.SeverityCritical,
	} {
		if got, ok := telemetry.ParseSeverity(text); !ok || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, ok, want)
		}
		if back, ok := telemetry.ParseSeverity(want.String()); !ok || back != want {
			t.Errorf("%v does not come back", want)
		}
	}
	for _, text := range []string{"", "shiny", "a severity that nobody has heard of", "3"} {
		if got, ok := telemetry.ParseSeverity(text); ok {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestPropertiesOfATopic(t *testing.T) {
	for _, c := range []struct {
		topic string
		want  []telemetry.Property
	}{
		{"", nil},
		{"MessageType=Channel", []telemetry.Property{{Key: "MessageType", Value: "Channel"}}},
		{"MessageType=Channel/", []telemetry.Property{{Key: "MessageType", Value: "Channel"}}},
		{"?a=b%20c&d", []telemetry.Property{{Key: "a", Value: "b c"}, {Key: "d"}}},
		{"%24.mid=7&%24.ct=application%2Fjson&%24.ce=utf-8", []telemetry.Property{
			{Key: "$.mid", Value: "7"}, {Key: "$.ct", Value: "application/json"}, {Key: "$.ce", Value: "utf-8"},
		}},
		{"a=1+1&a=2=3", []telemetry.Property{{Key: "a", Value: "1+1"}, {Key: "a", Value: "2=3"}}},
	} {
		got, err := telemetry.PropertiesFromTopic(c.topic)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %v, %v, want %v", c.topic, got, err, c.want)
		}
	}
	for _, topic := range []string{"=x", "a=%zz", "%zz=a", "a=%ff", "a=1&&b=2", strings.Repeat("a=1&", 200)} {
		if got, err := telemetry.PropertiesFromTopic(topic); err == nil {
			t.Errorf("%q is read as %v", topic, got)
		}
	}
}

func TestADecoderIsSafeForConcurrentUse(t *testing.T) {
	d := telemetry.NewDecoder(telemetry.Options{})
	bodies := []string{panelJSON, logJSON, flatJSON, senmlJSON, `{"broken`, ""}
	done := make(chan bool)
	for worker := range 4 {
		go func() {
			defer func() { done <- true }()
			for i := range 300 {
				in := telemetry.Input{Body: []byte(bodies[(i+worker)%len(bodies)]), IngestTime: ingestTime}
				messages, rejected := d.Decode(nil, in)
				for j := range messages {
					if messages[j].DeviceID == "" {
						t.Error("a message without a device")
					}
				}
				for _, r := range rejected {
					if r.Err == nil {
						t.Error("refused without a reason")
					}
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
}

func TestPropertiesThatAreNoUTF8AreMadeReadable(t *testing.T) {
	d := telemetry.NewDecoder(telemetry.Options{})
	in := telemetry.Input{
		Body: []byte("21.5"), DeviceID: "d1", ChannelKey: "t", IngestTime: ingestTime, IdempotencyKey: "k\xff",
		Properties: []telemetry.Property{{Key: "good", Value: "v"}, {Key: "latin", Value: "Ger\xe4t"}},
	}
	messages, rejected := d.Decode(nil, in)
	if len(rejected) > 0 || len(messages) != 1 {
		t.Fatal(rejected)
	}
	want := []telemetry.Property{{Key: "good", Value: "v"}, {Key: "latin", Value: "Ger\uFFFDt"}}
	if !reflect.DeepEqual(messages[0].Properties, want) || messages[0].MessageID != "k\uFFFD" {
		t.Fatalf("got %q, id %q", messages[0].Properties, messages[0].MessageID)
	}
}

func TestARetryHasTheSameIDAndAnotherMessageAnother(t *testing.T) {
	d := telemetry.NewDecoder(telemetry.Options{})
	id := func(body string, at telemetry.Time) string {
		messages, rejected := d.Decode(nil, telemetry.Input{Body: []byte(body), DeviceID: "homecontroller", IngestTime: at})
		if len(rejected) > 0 {
			t.Fatal(rejected[0].Err)
		}
		return messages[0].MessageID
	}
	first := id(panelJSON, ingestTime)
	if again := id(panelJSON, ingestTime+1e9); again != first || first == "" {
		t.Fatalf("a retry has %q, the first sending %q", again, first)
	}
	if other := id(strings.Replace(panelJSON, "unset", "set", 1), ingestTime); other == first {
		t.Fatal("another message has the same id")
	}
	if got := id(`{"a":1}`, ingestTime); got != "" {
		t.Fatalf("a body without a time has the id %q: a repeat cannot be told from a new message", got)
	}
	if got := id(`{"a":1,"ts":5}`, ingestTime); got != "" {
		t.Fatalf("a clock that was never set gives the id %q: it begins anew with each start", got)
	}
}

func TestLongBodiesAreRefusedInBoundedMemory(t *testing.T) {
	d := telemetry.NewDecoder(telemetry.Options{})
	body := "[" + strings.Repeat("1,", 100_000) + "1]"
	messages, rejected := d.Decode(nil, telemetry.Input{Body: []byte(body), DeviceID: "d1", IngestTime: ingestTime})
	if len(messages) != 0 || len(rejected) != telemetry.RefusedMax+1 {
		t.Fatalf("%d messages, %d refused, want 0 and %d", len(messages), len(rejected), telemetry.RefusedMax+1)
	}
	rest := rejected[telemetry.RefusedMax]
	if !strings.HasSuffix(string(rest.Payload), "1]") || len(rest.Payload) != len(body)-1-2*telemetry.RefusedMax {
		t.Fatal("the rest of the body is not in the last refusal")
	}
}

func TestManyKeysAreToldApart(t *testing.T) {
	d := telemetry.NewDecoder(telemetry.Options{})
	var b strings.Builder
	for i := range 200 {
		b.WriteString(`,"k` + strings.Repeat("x", i) + `":1`)
	}
	good := "{" + b.String()[1:] + "}"
	messages, rejected := d.Decode(nil, telemetry.Input{Body: []byte(good), DeviceID: "d1", IngestTime: ingestTime})
	if len(messages) != 200 || len(rejected) != 0 {
		t.Fatalf("%d messages, %d refused", len(messages), len(rejected))
	}
	bad := good[:len(good)-1] + `,"kxxx":2}`
	_, rejected = d.Decode(nil, telemetry.Input{Body: []byte(bad), DeviceID: "d1", IngestTime: ingestTime})
	if len(rejected) != 1 || !strings.Contains(rejected[0].Err.Error(), "stands twice") {
		t.Fatalf("got %v", rejected)
	}
}

func TestWhatIsNoUTF8IsRefusedAndCostsNoOtherRecord(t *testing.T) {
	d := telemetry.NewDecoder(telemetry.Options{})
	body := []byte("{\"a\":1}\n{\"a\":\"\xff\"}\n[{\"a\":2},{\"\xc0\":3}]")
	messages, rejected := d.Decode(nil, telemetry.Input{Body: body, DeviceID: "d1", IngestTime: ingestTime})
	if len(messages) != 2 || len(rejected) != 2 {
		t.Fatalf("%d messages, %d refused, want 2 and 2", len(messages), len(rejected))
	}
	for _, r := range rejected {
		if !strings.Contains(r.Err.Error(), "not valid UTF-8") {
			t.Error(r.Err)
		}
	}
	_, rejected = d.Decode(nil, telemetry.Input{Body: []byte("\xff"), DeviceID: "d1", ChannelKey: "t", IngestTime: ingestTime})
	if len(rejected) != 1 || !strings.Contains(rejected[0].Err.Error(), "not valid UTF-8") {
		t.Errorf("a bare value: %v", rejected)
	}
}
