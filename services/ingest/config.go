package ingest

import (
	"errors"
	"fmt"
	"math"
	"path"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/decoding"
	"github.com/millrace/millrace/pkg/listen"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest/internal/pipeline"
)

// Config says where devices are listened to, and what they may do.
type Config struct {
	MQTT     MQTT             `yaml:"mqtt" doc:"The MQTT edge."`
	HTTP     HTTP             `yaml:"http" doc:"The HTTP edge."`
	Limits   Limits           `yaml:"limits" doc:"What one device, connection or request may take, and all together."`
	Formats  decoding.Formats `yaml:"formats" doc:"How bodies are read."`
	Clock    decoding.Clock   `yaml:"clock" doc:"When a device's clock is believed."`
	Gateways []Gateway        `yaml:"gateways" doc:"Devices that speak for others, beside what their keys allow."`
	Tenant   string           // of all devices; the file has it once, at the top
	Drain    time.Duration    `yaml:"drain" doc:"How long connections and requests may take to finish when the process stops."`
}

// MQTT is the edge for MQTT 3.1.1 and 5.
type MQTT struct {
	Addr             string        `yaml:"addr" doc:"Address of the listener without TLS, host:port; empty for none."`
	TLSAddr          string        `yaml:"tls_addr" doc:"Address of the listener with TLS; empty for none."`
	TLS              listen.TLS    `yaml:"tls" doc:"Certificate of the listener with TLS."`
	KeepAliveMax     time.Duration `yaml:"keep_alive_max" doc:"MQTT 5 clients that ask for a longer keep-alive, or none, are given this one; a client is cut after one and a half times its keep-alive."`
	SessionExpiryMax time.Duration `yaml:"session_expiry_max" doc:"How long a session is kept without its client; clients that ask for more are given this."`
}

// HTTP is the edge for HTTP.
type HTTP struct {
	Addr          string        `yaml:"addr" doc:"Address of a listener of its own, host:port; empty where the endpoints are part of another listener."`
	TLS           listen.TLS    `yaml:"tls" doc:"Certificate of that listener; it speaks plain HTTP when there is none."`
	ReadTimeout   time.Duration `yaml:"read_timeout" doc:"For a request with its body."`
	AnswerTimeout time.Duration `yaml:"answer_timeout" doc:"For the log to confirm; beyond it the answer is 503."`
}

// Limits each have an answer: HTTP's status, or MQTT 5's reason code.
type Limits struct {
	MessageBytes       config.Bytes  `yaml:"message_bytes" doc:"Largest message and MQTT packet. Beyond it: 0x95 and the end of the connection, or over HTTP the record is rejected (413 if all are)."`
	BodyBytes          config.Bytes  `yaml:"body_bytes" doc:"Largest HTTP body, as it comes and unpacked. Beyond it: 413."`
	JSONDepth          int           `yaml:"json_depth" doc:"How deep JSON may be nested. Beyond it: the record is rejected."`
	MessagesPerSecond  int           `yaml:"messages_per_second" doc:"Messages of one device; 0 is no limit. Beyond it: 429 with Retry-After, 0x97 for QoS 1 and 2 of MQTT 5; for MQTT 3.1.1 and QoS 0, which cannot be told, reading pauses."`
	MessagesBurst      int           `yaml:"messages_burst" doc:"How many messages of one device are taken at once beyond its rate."`
	BytesPerSecond     config.Bytes  `yaml:"bytes_per_second" doc:"Bytes of the bodies of one device, unpacked; 0 is no limit. Beyond it: as with messages_per_second."`
	BytesBurst         config.Bytes  `yaml:"bytes_burst" doc:"How many bytes of one device are taken at once beyond its rate."`
	TenantMessages     int           `yaml:"tenant_messages_per_second" doc:"Messages of all devices together, at this edge; 0 is no limit. Beyond it: devices that have sent more than their share are answered as with messages_per_second."`
	TenantBytes        config.Bytes  `yaml:"tenant_bytes_per_second" doc:"Bytes of all devices together, likewise."`
	Devices            int           `yaml:"devices" doc:"Of how many devices the rate is remembered; beyond it those that send least."`
	ConnectTimeout     time.Duration `yaml:"connect_timeout" doc:"From a connection to its CONNECT, TLS included. Beyond it: the connection is closed."`
	ConnectBytes       config.Bytes  `yaml:"connect_bytes" doc:"Largest CONNECT. Beyond it: the connection is closed."`
	PacketTimeout      time.Duration `yaml:"packet_timeout" doc:"For the rest of a packet that has begun. Beyond it: 0x8D."`
	WriteTimeout       time.Duration `yaml:"write_timeout" doc:"For a client to take what is sent to it. Beyond it: the connection is closed."`
	Connections        int           `yaml:"connections" doc:"MQTT connections at a time. Beyond it: closed at once."`
	AddressConnections int           `yaml:"connections_per_address" doc:"MQTT connections from one address; 0 is no limit, as behind a proxy that hides addresses. Beyond it: closed at once."`
	DeviceConnections  int           `yaml:"connections_per_device" doc:"MQTT connections with the key of one device; 0 is no limit. Beyond it: 0x97, or code 3."`
	Handshakes         int           `yaml:"handshakes" doc:"MQTT connections that have not finished their CONNECT. Beyond it: the oldest of them is closed."`
	ConnectionInflight config.Bytes  `yaml:"connection_inflight" doc:"Bytes of one MQTT connection that are not on disk yet. Beyond it: nothing more is read from it."`
	Inflight           config.Bytes  `yaml:"inflight" doc:"Bytes that are not on disk yet, of all senders. Beyond it: nothing more is read."`
	BodiesInflight     config.Bytes  `yaml:"bodies_inflight" doc:"Memory of the HTTP bodies in hand, and of MQTT packets beyond the read buffer. Beyond it: 503 with Retry-After; 0x89 and the end of the connection."`
	ReadBuffer         config.Bytes  `yaml:"read_buffer" doc:"Buffer of each MQTT connection; it grows for larger packets."`
	Sessions           int           `yaml:"sessions" doc:"MQTT sessions kept without their client. Beyond it: those that are gone for longest are forgotten."`
	Subscriptions      int           `yaml:"subscriptions" doc:"Topic filters of one MQTT session. Beyond it: 0x97."`
	SubscriberInflight int           `yaml:"subscriber_inflight" doc:"Messages of QoS 1 that a subscriber has not acknowledged. Beyond it: it waits, and what it misses in the end it is told."`
}

// Gateway lets a device speak for others.
type Gateway struct {
	Device string   `yaml:"device" doc:"The gateway's device id."`
	For    []string `yaml:"for" doc:"Ids of its children, or globs such as house-*."`
}

// Limits of limits.
const (
	messageBytesMax = 448 << 10 // a log takes a record of 512 KiB by default, and a message has its ids and times beside it
	bodyBytesMax    = 256 << 20
	depthMax        = 1000
	keepAliveMost   = math.MaxUint16 * time.Second
	expiryMost      = 30 * 24 * time.Hour
)

// DefaultConfig returns the defaults: listeners on loopback, for everybody on this machine.
func DefaultConfig() Config {
	return Config{
		MQTT: MQTT{Addr: "127.0.0.1:1883", KeepAliveMax: time.Hour, SessionExpiryMax: time.Hour},
		HTTP: HTTP{Addr: "127.0.0.1:8080", ReadTimeout: time.Minute, AnswerTimeout: 30 * time.Second},
		Limits: Limits{
			MessageBytes: 256 << 10, BodyBytes: 16 << 20, JSONDepth: telemetry.DefaultDepthMax,
			MessagesPerSecond: 20_000, MessagesBurst: 100_000, BytesPerSecond: 32 << 20, BytesBurst: 128 << 20, Devices: 100_000,
			ConnectTimeout: 5 * time.Second, ConnectBytes: 64 << 10, PacketTimeout: 30 * time.Second, WriteTimeout: 10 * time.Second,
			Connections: 20_000, AddressConnections: 10_000, DeviceConnections: 1000, Handshakes: 2000, ConnectionInflight: 4 << 20, Inflight: 64 << 20, BodiesInflight: 256 << 20, ReadBuffer: 16 << 10,
			Sessions: 20_000, Subscriptions: 32, SubscriberInflight: 64,
		},
		Clock:  decoding.DefaultConfig().Clock,
		Tenant: telemetry.DefaultTenant,
		Drain:  10 * time.Second,
	}
}

// Validate reports every fault by its key.
func (c Config) Validate() error {
	errs := append(c.MQTT.check(), c.Limits.check()...)
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for key, t := range map[string]listen.TLS{"mqtt.tls": c.MQTT.TLS, "http.tls": c.HTTP.TLS} {
		if err := t.Validate(); err != nil {
			fault("%s.%w", key, err)
		}
	}
	if c.HTTP.ReadTimeout <= 0 {
		fault("http.read_timeout: %v, want more than 0", c.HTTP.ReadTimeout)
	}
	if c.HTTP.AnswerTimeout <= 0 {
		fault("http.answer_timeout: %v, want more than 0", c.HTTP.AnswerTimeout)
	}
	if _, err := c.decoding().Options(); err != nil {
		errs = append(errs, err)
	}
	for i, g := range c.Gateways {
		if err := telemetry.ValidDeviceID(g.Device); err != nil {
			fault("gateways[%d].device: %w", i, err)
		}
		for j, glob := range g.For {
			if _, err := path.Match(glob, ""); err != nil || glob == "" {
				fault("gateways[%d].for[%d]: %q, want a device id or a glob such as house-*", i, j, glob)
			}
		}
	}
	if c.Drain <= 0 {
		fault("drain: %v, want more than 0", c.Drain)
	}
	return errors.Join(errs...)
}

func (m MQTT) check() []error {
	var errs []error
	if m.TLSAddr != "" && m.TLS.Cert == "" {
		errs = append(errs, errors.New("mqtt.tls.cert: it is empty, and mqtt.tls_addr needs a certificate"))
	}
	if m.KeepAliveMax < time.Second || m.KeepAliveMax > keepAliveMost {
		errs = append(errs, fmt.Errorf("mqtt.keep_alive_max: %v, want 1s to %v", m.KeepAliveMax, keepAliveMost))
	}
	if m.SessionExpiryMax < 0 || m.SessionExpiryMax > expiryMost {
		errs = append(errs, fmt.Errorf("mqtt.session_expiry_max: %v, want 0 to 30d", m.SessionExpiryMax))
	}
	return errs
}

func (l Limits) check() []error {
	var errs []error
	within := func(key string, n, least, most int64) {
		if n < least || n > most {
			errs = append(errs, fmt.Errorf("limits.%s: %d, want %d to %d", key, n, least, most))
		}
	}
	within("message_bytes", int64(l.MessageBytes), 1<<10, messageBytesMax)
	within("body_bytes", int64(l.BodyBytes), 1<<10, bodyBytesMax)
	within("json_depth", int64(l.JSONDepth), 1, depthMax)
	within("messages_per_second", int64(l.MessagesPerSecond), 0, 1e9)
	within("messages_burst", int64(l.MessagesBurst), 0, 1e9)
	within("bytes_per_second", int64(l.BytesPerSecond), 0, 1<<40)
	within("bytes_burst", int64(l.BytesBurst), 0, 1<<40)
	within("tenant_messages_per_second", int64(l.TenantMessages), 0, 1e9)
	within("tenant_bytes_per_second", int64(l.TenantBytes), 0, 1<<40)
	within("devices", int64(l.Devices), 1, 100e6)
	within("connect_bytes", int64(l.ConnectBytes), 128, 1<<20)
	within("connections", int64(l.Connections), 1, 10e6)
	within("connections_per_address", int64(l.AddressConnections), 0, 10e6)
	within("connections_per_device", int64(l.DeviceConnections), 0, 10e6)
	within("handshakes", int64(l.Handshakes), 1, 10e6)
	within("connection_inflight", int64(l.ConnectionInflight), 1<<10, 1<<30)
	within("inflight", int64(l.Inflight), 1<<20, 1<<40)
	within("bodies_inflight", int64(l.BodiesInflight), 1<<20, 1<<40)
	within("read_buffer", int64(l.ReadBuffer), 1<<10, 1<<20)
	within("sessions", int64(l.Sessions), 0, 10e6)
	within("subscriptions", int64(l.Subscriptions), 0, 1000)
	within("subscriber_inflight", int64(l.SubscriberInflight), 1, 10_000)
	for key, d := range map[string]time.Duration{
		"connect_timeout": l.ConnectTimeout, "packet_timeout": l.PacketTimeout, "write_timeout": l.WriteTimeout,
	} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("limits.%s: %v, want more than 0", key, d))
		}
	}
	return errs
}

// rates returns what devices are held to.
func (l Limits) rates() pipeline.Rates {
	return pipeline.Rates{
		Messages:       pipeline.Rate{PerSecond: int64(l.MessagesPerSecond), Burst: int64(l.MessagesBurst)},
		Bytes:          pipeline.Rate{PerSecond: int64(l.BytesPerSecond), Burst: int64(l.BytesBurst)},
		TenantMessages: pipeline.Rate{PerSecond: int64(l.TenantMessages)},
		TenantBytes:    pipeline.Rate{PerSecond: int64(l.TenantBytes)},
		DevicesMax:     l.Devices,
	}
}
