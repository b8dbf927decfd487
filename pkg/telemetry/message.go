package telemetry

import "time"

// DefaultTenant is the tenant of every device when none is configured.
const DefaultTenant = "default"

// Time is a moment in nanoseconds since 1970-01-01 UTC; 0 means "not known".
// It holds the years 1678 to 2262.
type Time int64

// At returns t as a Time.
func At(t time.Time) Time { return Time(t.UnixNano()) }

// Std returns t as a time.Time in UTC.
func (t Time) Std() time.Time { return time.Unix(0, int64(t)).UTC() }

// Add returns t moved by d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Kind says what sort of thing a device said.
type Kind uint8

// The kinds, numbered as in the protobuf. KindUnknown is what the fallback route takes.
const (
	KindUnknown Kind = iota
	KindChannel      // one value of one channel, at one time
	KindLog          // a line of the device's own log
	KindEvent        // anything else that a device reports, as JSON or bytes
	KindSession      // Millrace's own: a device's connection began or ended (topic "sessions" only)
)

// Severity of a Log message, in rising order. SeverityNone is that of every other kind.
type Severity uint8

// The severities, numbered as in the protobuf.
const (
	SeverityNone Severity = iota
	SeverityTrace
	SeverityDebug
	SeverityInfo
	SeverityWarning
	SeverityError
	SeverityCritical
)

// Property is one application property that came beside a body: a topic's url-encoded properties, MQTT 5 user
// properties, or X-Property- headers.
type Property struct {
	Key   string
	Value string
}

// Message is one thing that one device said once. The zero value is no message: DeviceID, IngestTime and EventTime are set
// on every message that a Decoder returned.
//
// Byte slices and strings of a message that ParseMessage or a Decoder filled alias the record or body that was read and share
// its lifetime; Clone makes a copy that stands for itself.
type Message struct {
	Tenant     string // DefaultTenant where none is configured
	DeviceID   string // 1 to 128 bytes, see ValidDeviceID
	DeviceType string // "" where the device did not say and the configuration does not know

	Kind        Kind
	ChannelKey  string // such as "temperature" or "status@secvest"; "" for logs
	ChannelType string // as the device said ("json", "number"), else what the codec read: number, boolean, text, json
	// ChannelValue is the value as the device wrote it: the text of a string without its quotes, else the JSON token.
	ChannelValue []byte
	// Value is the number in ChannelValue; true is 1 and false is 0. Only where HasValue.
	Value    float64
	HasValue bool

	Severity Severity // logs only
	Text     string   // logs only: the line

	EventTime  Time // when it happened: the device's clock where that can be believed, else IngestTime
	DeviceTime Time // what the device said, where that is not EventTime; else 0
	IngestTime Time // when the edge took it

	// MessageID identifies the device's own retry: the id that the device gave, or a hash of its bytes where they carry
	// a timestamp; "" where a repeat cannot be told from a new message.
	MessageID  string
	Source     string     // "mqtt" or "http"; the device's own "Source" field of a log goes to LogSource
	LogSource  string     // logs only: the part of the device that wrote the line
	Credential string     // id of the key that authenticated the sender, never the key; "" on an open listener
	Codec      string     // name of the codec that read the body
	Properties []Property // application properties, in the order in which they came
	Attributes []byte     // JSON object of the body's fields that the format knows no place for; nil where none

	Record int // index of the record of its body that it came from; known to the edge alone, not on the bus
}

// Reset makes m the zero message again and keeps the capacity of Properties.
func (m *Message) Reset() { *m = Message{Properties: m.Properties[:0]} }
