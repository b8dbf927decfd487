package telemetry

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// unit is one body on its way through the codecs, and the record of it that is in hand.
type unit struct {
	d         *Decoder
	in        Input
	scan      jsonReader // its members are those of the record in hand
	inner     jsonReader // for paths into a member
	arena     arena
	out       []Message
	bad       []Rejected
	first     int     // len(out) before this body
	template  Message // what all messages of this body have in common
	index     int     // of the record in hand
	line      int     // on which the text in hand begins, from 1
	element   int     // of the array in hand; -1 outside of one
	rawText   bool    // the body holds bytes that are no UTF-8: each record must be checked
	plainText bool    // the content type says that the body is text
	ndjson    bool    // the content type says that every line is a record
	senml     bool    // the content type says SenML

	messageType string // the property, "" where there is none
	bodyID      string // id of the whole body

	raw     []byte // bytes of the record in hand
	fields  [fieldCount]int
	id      string // what the record itself says
	noHash  bool   // the record's time is relative to ours: the same bytes may be another measurement
	inPack  bool   // the record is one of a SenML pack
	senBase senmlBase
}

func (u *unit) begin(dst []Message, in Input) {
	in.Properties = validProperties(in.Properties)
	if !utf8.ValidString(in.IdempotencyKey) {
		in.IdempotencyKey = strings.ToValidUTF8(in.IdempotencyKey, "\uFFFD")
	}
	u.in, u.out, u.first, u.line, u.element = in, dst, len(dst), 1, -1
	u.template = Message{
		Tenant: in.Tenant, DeviceID: in.DeviceID, IngestTime: in.IngestTime,
		Source: in.Source, Credential: in.Credential, Properties: in.Properties,
	}
	if in.Tenant == "" {
		u.template.Tenant = DefaultTenant
	}
	contentType := in.ContentType
	if len(in.Properties) > 0 {
		u.messageType = property(in.Properties, propertyMessageType)
		u.template.DeviceType = property(in.Properties, propertyDeviceType)
		u.bodyID = property(in.Properties, "$.mid", propertyMessageID, "message-id")
		if contentType == "" {
			contentType = property(in.Properties, "$.ct")
		}
	}
	if u.bodyID == "" {
		u.bodyID = in.IdempotencyKey
	}
	u.bodyID = u.boundedID(u.bodyID)
	if contentType != "" && contentType != "application/json" {
		u.readContentType(contentType)
	}
	u.rawText = !utf8.Valid(in.Body)
	u.scan.b = in.Body
}

func (u *unit) readContentType(contentType string) {
	media, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
		u.ndjson = true
	case "application/senml+json":
		u.senml = true
	case "text/plain":
		u.plainText = true
	}
}

// end lets go of the body, so that a pooled unit does not keep it.
func (u *unit) end() {
	u.scan.release()
	u.inner.release()
	u.in, u.out, u.bad, u.template = Input{}, nil, nil, Message{}
	u.index, u.rawText, u.plainText, u.ndjson, u.senml, u.inPack = 0, false, false, false, false, false
	u.messageType, u.bodyID, u.raw, u.id, u.senBase = "", "", nil, "", senmlBase{}
}

// record decodes the object whose members u.scan holds.
func (u *unit) record(raw []byte) {
	u.raw, u.id, u.noHash = raw, "", false
	if u.rawText && !utf8.Valid(raw) {
		u.refuse(raw, errUTF8)
		return
	}
	u.classify()
	u.decode(raw)
}

func (u *unit) decode(raw []byte) {
	for i := range u.d.codecs {
		c := &u.d.codecs[i]
		if !c.takes(u) {
			continue
		}
		from := len(u.out)
		u.template.Codec = c.Name
		err := c.decode(u)
		if most := u.d.opt.RecordBytesMax; err == nil && most > 0 && len(raw) > most { // after decode: a pack's base values count on
			err = fmt.Errorf("%d bytes, want at most %d: %w", len(raw), most, ErrRecordTooLarge)
		}
		if err != nil {
			u.out = u.out[:from]
			u.refuse(raw, err)
			return
		}
		u.finish(from)
		u.index++
		return
	}
	u.refuse(raw, errUnread)
}

// emit appends one message, which is a copy of m.
func (u *unit) emit(m *Message) *Message {
	u.out = append(u.out, *m)
	return &u.out[len(u.out)-1]
}

// finish settles time and id of the record's messages.
func (u *unit) finish(from int) {
	got := u.out[from:]
	for i := range got {
		m := &got[i]
		m.Record = u.index
		rule := u.d.opt.Clock.Stamp(m)
		switch rule {
		case ClockAhead:
			u.count(CountClockAhead, m.DeviceID)
		case ClockUnset:
			u.count(CountClockUnset, m.DeviceID)
		case ClockBelieved, ClockSilent:
		}
		if i > 0 {
			continue
		}
		// A clock that was never set begins anew with each start: the same bytes may then be another message.
		hash := u.id == "" && u.bodyID == "" && !u.noHash && (rule == ClockBelieved || rule == ClockAhead)
		if hash {
			u.id = u.hashID(m)
		}
	}
	if u.id == "" || len(got) == 0 {
		return
	}
	u.id = u.boundedID(u.id)
	if len(got) == 1 {
		got[0].MessageID = u.id
		return
	}
	for i := range got {
		got[i].MessageID = u.numberedID(u.id, i)
	}
}

// applyBodyID gives the body's own id to the messages that have no other.
func (u *unit) applyBodyID() {
	got := u.out[u.first:]
	if u.bodyID == "" {
		return
	}
	for i := range got {
		switch {
		case got[i].MessageID != "":
		case len(got) == 1 && len(u.bad) == 0:
			got[i].MessageID = u.bodyID
		default:
			got[i].MessageID = u.numberedID(u.bodyID, i)
		}
	}
}

// refuse notes that payload is no message. It counts as one record.
func (u *unit) refuse(payload []byte, err error) {
	if u.element >= 0 {
		err = fmt.Errorf("[%d]: %w", u.element, err)
	}
	if u.line > 1 {
		err = fmt.Errorf("line %d: %w", u.line, err)
	}
	u.bad = append(u.bad, Rejected{Index: u.index, Payload: bytes.TrimRight(payload, " \t\r\n"), Err: err})
	u.index++
}

func (u *unit) count(what, device string) {
	if u.d.opt.OnCount != nil {
		u.d.opt.OnCount(what, strings.Clone(device)) // the counter outlives the body
	}
}
