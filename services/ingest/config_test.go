package ingest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/services/ingest"
)

func TestTheDefaultsAreValid(t *testing.T) {
	if err := ingest.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestFaultsAreReportedByKey(t *testing.T) {
	for key, change := range map[string]func(*ingest.Config){
		"http.read_timeout":       func(c *ingest.Config) { c.HTTP.ReadTimeout = 0 },
		"http.answer_timeout":     func(c *ingest.Config) { c.HTTP.AnswerTimeout = 0 },
		"http.tls":                func(c *ingest.Config) { c.HTTP.TLS.Key = "k" },
		"mqtt.tls.cert":           func(c *ingest.Config) { c.MQTT.TLSAddr = ":8883" },
		"mqtt.tls.client_ca":      func(c *ingest.Config) { c.MQTT.TLS.ClientCA = "ca" },
		"mqtt.keep_alive_max":     func(c *ingest.Config) { c.MQTT.KeepAliveMax = 100 * time.Hour },
		"mqtt.session_expiry_max": func(c *ingest.Config) { c.MQTT.SessionExpiryMax = -1 },
		"limits.message_bytes":    func(c *ingest.Config) { c.Limits.MessageBytes = 1 << 20 },
		"limits.connect_timeout":  func(c *ingest.Config) { c.Limits.ConnectTimeout = 0 },
		"limits.connections":      func(c *ingest.Config) { c.Limits.Connections = 0 },
		"formats.zones.x":         func(c *ingest.Config) { c.Formats.Zones = map[string]string{"x": "Mars/Olympus"} },
		"clock.max_skew":          func(c *ingest.Config) { c.Clock.MaxSkew = 0 },
		"clock.min_time":          func(c *ingest.Config) { c.Clock.MinTime = "yesterday" },
		"gateways[0].device":      func(c *ingest.Config) { c.Gateways = []ingest.Gateway{{For: []string{"a"}}} },
		"gateways[0].for[0]":      func(c *ingest.Config) { c.Gateways = []ingest.Gateway{{Device: "g", For: []string{"["}}} },
		"drain":                   func(c *ingest.Config) { c.Drain = 0 },
	} {
		c := ingest.DefaultConfig()
		change(&c)
		err := c.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%v, want a fault of %s", err, key)
		}
	}
}

func TestTheFileIsRead(t *testing.T) {
	const text = `
ingest:
  mqtt: {addr: "127.0.0.1:2883", keep_alive_max: 10m}
  limits: {message_bytes: 128KiB, messages_per_second: 0}
  formats: {zones: {default: Europe/Berlin}, decimal_comma: [RaspberryPiGateway_v1]}
  gateways: [{device: gw, for: ["house-*"]}]
`
	c := ingest.DefaultConfig()
	if err := config.Load(config.Source{File: "m.yml", YAML: []byte(text), Section: "ingest"}, &c); err != nil {
		t.Fatal(err)
	}
	if c.MQTT.Addr != "127.0.0.1:2883" || c.Limits.MessageBytes != 128<<10 || c.Gateways[0].For[0] != "house-*" || c.HTTP.Addr == "" {
		t.Errorf("%+v", c)
	}
}
