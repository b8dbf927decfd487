package decoding_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/decoding"
	"github.com/millrace/millrace/pkg/telemetry"
)

func load(yaml string) (decoding.Config, error) {
	cfg := decoding.DefaultConfig()
	err := config.Load(config.Source{YAML: []byte(yaml), Section: "ingest", OtherSections: []string{"live"}, Partly: true}, &cfg)
	return cfg, err
}

func TestADecoderReadsByTheKeysThatMatterToItAndLeavesTheOthers(t *testing.T) {
	cfg, err := load(`
ingest:
  mqtt: {addr: ":1883"}
  limits: {json_depth: 3, connections: 7}
  formats: {decimal_comma: [comma], zones: {default: Europe/Berlin}}
live: {}
`)
	if err != nil {
		t.Fatal(err)
	}
	d, err := cfg.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	read := func(body string) ([]telemetry.Message, []telemetry.Rejected) {
		return d.Decode(nil, telemetry.Input{Body: []byte(body), DeviceID: "d", IngestTime: 1.7e18})
	}
	msgs, rejected := read(`{"DeviceType":"comma","t":"21,5","timestamp":"2023-07-01T12:00:00"}`)
	if len(rejected) != 0 || len(msgs) != 1 || !msgs[0].HasValue || msgs[0].Value != 21.5 {
		t.Fatalf("got %+v, %v, want 21.5", msgs, rejected)
	}
	if hour := msgs[0].EventTime.Std().UTC().Hour(); hour != 10 {
		t.Errorf("the hour is %d, want 10: noon in Berlin", hour)
	}
	if _, rejected := read(`{"a":{"b":{"c":{"d":1}}}}`); len(rejected) != 1 {
		t.Error("what is nested more deeply than json_depth is taken")
	}
}

func TestAKeyThatNobodyCanReadIsNamed(t *testing.T) {
	for yaml, want := range map[string]string{
		"ingest: {formats: {zones: {default: Moon/Tycho}}}": "ingest.formats.zones.default",
		"ingest: {clock: {max_skew: 0s}}":                   "ingest.clock.max_skew",
		"ingest: {clock: {min_time: once}}":                 "ingest.clock.min_time",
	} {
		if _, err := load(yaml); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s named", yaml, err, want)
		}
	}
}
