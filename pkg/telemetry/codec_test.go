package telemetry_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// goldenInput is a testdata/*.in.json. Body is sent as it stands there; Lines are joined, for what is no JSON.
type goldenInput struct {
	Why             string
	Body            json.RawMessage
	Lines           []string
	ContentType     string
	Device          string
	Channel         string
	TopicProperties string
	IdempotencyKey  string
	MayActFor       []string
	Options         struct {
		TimeField    string
		Zone         map[string]string
		DecimalComma []string
		DepthMax     int
		MessagesMax  int
	}
}

type goldenMessage struct {
	DeviceID    string          `json:"device_id"`
	DeviceType  string          `json:"device_type,omitempty"`
	Kind        string          `json:"kind"`
	ChannelKey  string          `json:"channel_key,omitempty"`
	ChannelType string          `json:"channel_type,omitempty"`
	Raw         string          `json:"channel_value,omitempty"`
	Value       *float64        `json:"value,omitempty"`
	Severity    string          `json:"severity,omitempty"`
	Text        string          `json:"text,omitempty"`
	LogSource   string          `json:"log_source,omitempty"`
	EventTime   string          `json:"event_time"`
	DeviceTime  string          `json:"device_time,omitempty"`
	MessageID   string          `json:"message_id,omitempty"`
	Codec       string          `json:"codec"`
	Attributes  json.RawMessage `json:"attributes,omitempty"`
}

type goldenRejected struct {
	Index   int    `json:"index"`
	Payload string `json:"payload"`
	Error   string `json:"error"`
}

type goldenWant struct {
	Messages []goldenMessage  `json:"messages"`
	Rejected []goldenRejected `json:"rejected,omitempty"`
	Counts   []string         `json:"counts,omitempty"`
}

func TestBodiesAreReadAsTheGoldenFilesSay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".in.json")
		t.Run(name, func(t *testing.T) {
			got := decodeGolden(t, file)
			wantFile := strings.TrimSuffix(file, ".in.json") + ".want.json"
			if os.Getenv("MILLRACE_UPDATE") == "1" {
				if err := os.WriteFile(wantFile, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: got\n%s\nwant\n%s", wantFile, got, want)
			}
		})
	}
}

func decodeGolden(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var g goldenInput
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&g); err != nil {
		t.Fatal(err)
	}
	var want goldenWant
	d := telemetry.NewDecoder(g.options(t, func(what, device string) {
		want.Counts = append(want.Counts, what+" "+device)
	}))
	messages, rejected := d.Decode(nil, g.input(t))
	for i := range messages {
		want.Messages = append(want.Messages, golden(&messages[i]))
	}
	for _, r := range rejected {
		want.Rejected = append(want.Rejected, goldenRejected{r.Index, string(r.Payload), r.Err.Error()})
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(want); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (g *goldenInput) options(t *testing.T, onCount func(what, device string)) telemetry.Options {
	t.Helper()
	o := telemetry.Options{
		TimeField: g.Options.TimeField, DepthMax: g.Options.DepthMax, MessagesMax: g.Options.MessagesMax, OnCount: onCount,
		Zone: map[string]*time.Location{}, DecimalComma: map[string]bool{},
	}
	for deviceType, name := range g.Options.Zone {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Skipf("no time zones on this machine: %v", err)
		}
		o.Zone[deviceType] = zone
	}
	for _, deviceType := range g.Options.DecimalComma {
		o.DecimalComma[deviceType] = true
	}
	return o
}

func (g *goldenInput) input(t *testing.T) telemetry.Input {
	t.Helper()
	props, err := telemetry.PropertiesFromTopic(g.TopicProperties)
	if err != nil {
		t.Fatal(err)
	}
	in := telemetry.Input{
		Body: g.Body, ContentType: g.ContentType, DeviceID: g.Device, ChannelKey: g.Channel, Properties: props,
		Source: "mqtt", IngestTime: ingestTime, IdempotencyKey: g.IdempotencyKey,
	}
	if g.Lines != nil {
		in.Body = []byte(strings.Join(g.Lines, "\n"))
	}
	if g.MayActFor != nil {
		in.MayActFor = func(device string) bool {
			return slices.Contains(g.MayActFor, device)
		}
	}
	return in
}

func golden(m *telemetry.Message) goldenMessage {
	g := goldenMessage{
		DeviceID: m.DeviceID, DeviceType: m.DeviceType, Kind: "unknown", ChannelKey: m.ChannelKey,
		ChannelType: m.ChannelType, Raw: string(m.ChannelValue), Severity: m.Severity.String(), Text: m.Text,
		LogSource: m.LogSource, EventTime: m.EventTime.Std().Format(time.RFC3339Nano), MessageID: m.MessageID, Codec: m.Codec,
		Attributes: m.Attributes,
	}
	kinds := map[telemetry.Kind]string{
		telemetry.KindChannel: "channel", telemetry.KindLog: "log", telemetry.KindEvent: "event",
	}
	if k, ok := kinds[m.Kind]; ok {
		g.Kind = k
	}
	if m.HasValue {
		g.Value = &m.Value
	}
	if m.DeviceTime != 0 {
		g.DeviceTime = m.DeviceTime.Std().Format(time.RFC3339Nano)
	}
	return g
}
