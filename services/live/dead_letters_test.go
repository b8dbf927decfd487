package live_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/live"
)

// letters puts some into the database: 0.11.0 of the edge, 0.12.0 of a worker, 0.13.0 of a row, 0.14.0 of bytes that are no text.
func (f *fixture) letters(t *testing.T) {
	t.Helper()
	message := telemetry.Message{
		Tenant: "default", DeviceID: "thermostat-1", Kind: telemetry.KindChannel, ChannelKey: "t", ChannelValue: []byte("x"), EventTime: 5, IngestTime: 6,
	}
	letters := []telemetry.DeadLetter{
		{
			Topic: "mqtt", Worker: "ingest", Reason: "not a number", Payload: []byte("21,5 C"), ReceivedAt: f.at, Tenant: "default", DeviceID: "dev1",
			Context: `{"channel_key":"temperature"}`,
		},
		{
			Topic: "telemetry", Worker: "history-writer", Reason: "no", Payload: telemetry.AppendMessage(nil, &message), ReceivedAt: f.at, Tenant: "default",
			DeviceID: "thermostat-1", Partition: 1, Position: "81.0", Context: `{"origin":"1.80.0","escaped":true}`,
		},
		{Topic: "telemetry", Worker: "aggregator", Reason: "store: no", Payload: []byte("{}"), ReceivedAt: f.at, Context: `{"row":true}`},
		{Topic: "http", Worker: "ingest", Reason: "no", Payload: []byte{0xff, 0, 'x', '\\'}, ReceivedAt: f.at, Context: `{"escaped":true}`},
	}
	rows := make([]store.DeadLetterRow, len(letters))
	for i, d := range letters {
		rows[i] = store.DeadLetterRow{DeadLetter: d, At: bus.Origin{Position: bus.Position{Seq: uint64(11 + i)}}}
	}
	must(t, f.db.DeadLetters().Write(t.Context(), commit("letters"), rows))
}

func (f *fixture) whole(t *testing.T, id string) (d struct {
	PayloadBase64 []byte         `json:"payload_base64"`
	Message       map[string]any `json:"message"`
	ReplayTo      string         `json:"replay_to"`
	ReplayRefused string         `json:"replay_refused"`
},
) {
	t.Helper()
	code, _, body := f.ask(t, "GET", "/v1/dead-letters/"+id, "")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	must(t, json.Unmarshal([]byte(body), &d))
	return d
}

func TestADeadLetterIsShownWhole(t *testing.T) {
	f := start(t, nil)
	f.letters(t)
	if d := f.whole(t, "0.12.0"); d.Message["channel_value"] != "x" || d.ReplayTo != "history-writer" || d.ReplayRefused != "" {
		t.Errorf("%+v", d)
	}
	if d := f.whole(t, "0.14.0"); string(d.PayloadBase64) != "\xff\x00x\\" || d.ReplayTo != "ingested" {
		t.Errorf("%+v", d)
	}
	if d := f.whole(t, "0.13.0"); d.ReplayRefused == "" {
		t.Errorf("%+v", d)
	}
}

func TestWhatCannotBePutBackSaysWhy(t *testing.T) {
	f := start(t, func(c *live.Config, _ *live.Deps) { c.Query.AckWait = 0 })
	f.letters(t)
	for _, c := range []struct {
		id, body string
		code     int
		says     string
	}{
		{"0.14.0", "", http.StatusUnprocessableEntity, "still no message"},
		{"0.13.0", "", http.StatusUnprocessableEntity, "the store refused a row"},
		{"0.13.0", `{"payload":"{}"}`, http.StatusUnprocessableEntity, "the store refused a row"},
		{"0.12.0", `{"payload":"{\"DeviceId\":\"other\",\"t\":1}"}`, http.StatusUnprocessableEntity, "want thermostat-1"},
		{"0.12.0", `{"payload":"[]"}`, http.StatusUnprocessableEntity, ""},
		{"0.12.0", `{"payload":"x","payload_base64":"eA=="}`, http.StatusBadRequest, "want one of them"},
		{"0.99.0", "", http.StatusNotFound, "there is no dead letter"},
		{"x", "", http.StatusBadRequest, "partition.sequence.index"},
	} {
		code, _, body := f.ask(t, "POST", "/v1/dead-letters/"+c.id+"/replay", c.body)
		if code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %d %s, want %d and %q", c.id, c.body, code, body, c.code, c.says)
		}
	}
	if n := len(f.log.Records(bus.PartitionID{Topic: bus.DeadLetters})); n != 0 {
		t.Errorf("%d notes on the log", n)
	}
}

func TestALetterOfTheEdgeGoesInAgainAsAMessage(t *testing.T) {
	f := start(t, func(c *live.Config, _ *live.Deps) { c.Query.AckWait = 0 })
	f.letters(t)
	code, _, body := f.ask(t, "POST", "/v1/dead-letters/0.11.0/replay", `{"payload":"21.5","by":"ada"}`)
	if code != http.StatusAccepted {
		t.Fatalf("%d %s", code, body)
	}
	p := bus.PartitionID{Topic: bus.Ingested, Number: bus.PartitionOf("default", "dev1", 2)}
	recs := f.log.Records(p)
	if len(recs) != 1 {
		t.Fatalf("%d records", len(recs))
	}
	var m telemetry.Message
	must(t, telemetry.ParseMessage(recs[0].Value, &m))
	if m.DeviceID != "dev1" || m.ChannelKey != "temperature" || m.Value != 21.5 || m.MessageID != "letter-0.11.0" || m.EventTime != f.at || m.Source != "mqtt" {
		t.Errorf("%+v", m)
	}
	d := f.lastNote(t)
	if d.ReplayOf != "0.11.0" || d.ReplayedBy != "ada" || d.Deliver || string(d.Payload) != "21,5 C" {
		t.Errorf("note %+v", d)
	}
	if n := len(f.log.Records(bus.PartitionID{Topic: bus.Books, Number: p.Number})); n != 1 {
		t.Errorf("%d accounts in the books, want 1", n)
	}
}

func TestALetterOfAWorkerIsAskedForIt(t *testing.T) {
	f := start(t, func(c *live.Config, _ *live.Deps) { c.Query.AckWait = 0 })
	f.letters(t)
	if code, _, body := f.ask(t, "POST", "/v1/dead-letters/0.12.0/replay", `{"payload":"{\"DeviceId\":\"thermostat-1\",\"t\":7}"}`); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, body)
	}
	d := f.lastNote(t)
	var m telemetry.Message
	must(t, telemetry.ParseMessage(d.Repaired, &m))
	if d.ReplayOf != "0.12.0" || !d.Deliver || m.Value != 7 || m.DeviceID != "thermostat-1" || d.Worker != "history-writer" {
		t.Errorf("note %+v, message %+v", d, m)
	}
	for n := range 2 {
		if len(f.log.Records(bus.PartitionID{Topic: bus.Ingested, Number: n})) > 0 {
			t.Error("it went in from the beginning as well")
		}
	}
}

func (f *fixture) lastNote(t *testing.T) (d telemetry.DeadLetter) {
	t.Helper()
	recs := f.log.Records(bus.PartitionID{Topic: bus.DeadLetters})
	if len(recs) == 0 {
		t.Fatal("there is no note")
	}
	must(t, telemetry.ParseDeadLetter(recs[len(recs)-1].Value, &d))
	return d
}
