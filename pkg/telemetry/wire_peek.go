package telemetry

import "fmt"

// Header is the part of a message by which a record is sorted and sifted.
type Header struct {
	Tenant, DeviceID, DeviceType, ChannelKey, MessageID string

	Kind       Kind
	Severity   Severity
	EventTime  Time
	IngestTime Time
}

// PeekMessage reads only the header of an encoded message. Strings alias b, as in ParseMessage; it never allocates.
// It walks over all of b, since protobuf promises no order of fields, so a fault behind the header is found as well, except
// one within a property. The error wraps ErrWire.
func PeekMessage(b []byte) (Header, error) {
	var h Header
	r := wireReader{b: b}
	for r.next() {
		switch r.tag {
		case tagTenant:
			h.Tenant = r.text()
		case tagDeviceID:
			h.DeviceID = r.text()
		case tagDeviceType:
			h.DeviceType = r.text()
		case tagKind:
			h.Kind = r.kind()
		case tagChannelKey:
			h.ChannelKey = r.text()
		case tagSeverity:
			h.Severity = r.sev()
		case tagEventTime:
			h.EventTime = r.time()
		case tagIngestTime:
			h.IngestTime = r.time()
		case tagMessageID:
			h.MessageID = r.text()
		}
	}
	if r.err != nil {
		return Header{}, fmt.Errorf("message header: %w", r.err)
	}
	return h, nil
}
