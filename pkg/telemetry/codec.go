package telemetry

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Codec reads one device format. The codecs are tried in the order of Codecs and the first that takes a record decodes it.
type Codec struct {
	Name string // what Message.Codec says
	// takes reports whether the record is of this format. It is asked once a record and looks at names only.
	takes func(u *unit) bool
	// decode appends the record's messages with unit.emit. After an error those of this record are dropped again and the
	// record is refused as a whole.
	decode func(u *unit) error
}

// Codecs returns all codecs in the order in which they are tried. The last one takes every object.
func Codecs() []Codec {
	return []Codec{
		{"bare", takesBare, decodeBare},          // one value on a channel's own topic
		{"senml", takesSenML, decodeSenML},       // RFC 8428
		{"channel", takesChannel, decodeChannel}, // Channel, Log and custom events, as gateways send them
		{"json", takesFlatJSON, decodeFlatJSON},  // any other object: each member is a channel
	}
}

// Defaults and limits of Options.
const (
	DefaultDepthMax    = 32
	DefaultMessagesMax = 65_536
	// RefusedMax is how many records of one body are refused one by one; the rest of the body is then refused as one.
	RefusedMax = 1000
)

// What Options.OnCount counts: things that are no fault, and that somebody ought to know of.
const (
	CountDecimalComma    = "decimal_comma"    // a number such as 21,50 stayed text
	CountUnknownSeverity = "unknown_severity" // a log's severity has no name that we know, and was read as info
	CountClockAhead      = "clock_ahead"      // see ClockAhead
	CountClockUnset      = "clock_unset"      // see ClockUnset
)

// Options is how a Decoder reads. The zero value is the default.
type Options struct {
	// DepthMax is how deep JSON may be nested, the outermost container included; deeper is refused. 0 is DefaultDepthMax.
	DepthMax int
	// MessagesMax bounds the messages of one body; the rest of the body is refused as one. 0 is DefaultMessagesMax.
	MessagesMax int
	// RecordBytesMax is the size of one record as it stands in the body; a larger one is refused with ErrRecordTooLarge. 0 is
	// no limit.
	RecordBytesMax int
	// TimeField is the name of a member that holds the time, or its path such as "meta.ts". Where a record has it, it goes
	// before the names that are known anyhow.
	TimeField string
	// Zone is the time zone of local times without an offset, by device type; "" is that of all others. Default UTC.
	Zone map[string]*time.Location
	// DecimalComma has the device types whose numbers in strings have a decimal comma: "21,50" is 21.5 and "1.234,5" is
	// 1234.5. For all others such a string stays text, is counted, and is no number.
	DecimalComma map[string]bool
	Clock        Clock
	// OnCount is told what was odd about a message; see the Count constants. device is the callee's to keep. It is called
	// within Decode, so from several goroutines at once.
	OnCount func(what, device string)
}

// Input is one body as it came to the edge, with what the edge knows about it.
type Input struct {
	Body        []byte
	ContentType string // of HTTP or MQTT 5; "" where there was none
	Tenant      string // "" is DefaultTenant
	// DeviceID is the device of the topic or path; "" where neither names one. What a body says must be the same, or
	// MayActFor must allow it.
	DeviceID string
	// ChannelKey is the channel of a topic devices/{id}/channels/{key}: the body is then one bare value.
	ChannelKey string
	Properties []Property // application properties; the messages alias them
	Source     string     // "mqtt" or "http"
	Credential string     // id of the key that authenticated the sender
	IngestTime Time       // when the edge took it; must be set
	// IdempotencyKey is the sender's own name for the whole body, "" for none.
	IdempotencyKey string
	// MayActFor reports whether the sender may speak for a device that is not DeviceID. nil: only where DeviceID is "".
	MayActFor func(device string) bool
}

// Rejected is one record of a body that is no message, with the reason.
type Rejected struct {
	Index   int    // of the record in the body, from 0
	Payload []byte // the record's bytes; aliases the body
	Err     error  // names the field, and what was wanted
}

// Decoder reads bodies. Safe for concurrent use.
type Decoder struct {
	opt      Options
	codecs   []Codec
	timePath []string
	units    sync.Pool // of *unit
}

// NewDecoder returns a Decoder with every codec.
func NewDecoder(opt Options) *Decoder {
	if opt.DepthMax <= 0 {
		opt.DepthMax = DefaultDepthMax
	}
	if opt.MessagesMax <= 0 {
		opt.MessagesMax = DefaultMessagesMax
	}
	d := &Decoder{opt: opt, codecs: Codecs()}
	if opt.TimeField != "" {
		d.timePath = strings.Split(opt.TimeField, ".")
	}
	return d
}

// Decode appends the messages of one body to dst and returns it, together with the records that are none. A body is one
// JSON object, an array of them, a SenML pack, or several of these one below the other (NDJSON, each of which may be
// pretty-printed); with Input.ChannelKey it is one bare value. Every byte of the body that is no white space ends up in a
// message or in a Rejected: good records are kept when others are bad, and an empty body is rejected as well.
//
// Event time is settled (see Clock) and messages have their ids. Strings and bytes of the messages alias Body and the other
// strings of in: they are good for as long as Body is left alone. Decode keeps nothing of in.
func (d *Decoder) Decode(dst []Message, in Input) ([]Message, []Rejected) {
	u, ok := d.units.Get().(*unit)
	if !ok {
		u = &unit{d: d}
		u.scan.depthMax, u.scan.arena = d.opt.DepthMax, &u.arena
		u.inner.depthMax, u.inner.arena = d.opt.DepthMax, &u.arena
	}
	u.begin(dst, in)
	if err := u.checkInput(); err != nil {
		u.refuse(in.Body, err)
	} else {
		u.decodeBody()
		u.applyBodyID()
	}
	dst, bad := u.out, u.bad
	u.end()
	d.units.Put(u)
	return dst, bad
}

// checkInput refuses what is wrong about the body as a whole.
func (u *unit) checkInput() error {
	if u.in.DeviceID != "" {
		if err := ValidDeviceID(u.in.DeviceID); err != nil {
			return fmt.Errorf("device id of the topic or path: %w", err)
		}
	}
	if u.in.ChannelKey != "" {
		if err := validChannelKey(u.in.ChannelKey); err != nil {
			return fmt.Errorf("channel key of the topic: %w", err)
		}
	}
	return nil
}
