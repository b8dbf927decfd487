package telemetry

import (
	"fmt"
	"strings"
)

// AppendDeadLetter appends d as protobuf millrace.v1.DeadLetter to dst and returns it. Payload is kept byte by byte;
// invalid UTF-8 in a string, such as a reason that quotes the payload, becomes U+FFFD. Keeps nothing of d.
func AppendDeadLetter(dst []byte, d *DeadLetter) []byte {
	dst = appendAnyText(dst, 1<<3|wireBytes, d.Topic)
	dst = appendAnyText(dst, 2<<3|wireBytes, d.Worker)
	dst = appendAnyText(dst, 3<<3|wireBytes, d.Reason)
	dst = appendBytes(dst, 4<<3|wireBytes, d.Payload)
	dst = appendTime(dst, 5<<3|wireFixed64, d.ReceivedAt)
	dst = appendAnyText(dst, 6<<3|wireBytes, d.DeviceID)
	dst = appendAnyText(dst, 7<<3|wireBytes, d.Tenant)
	dst = appendVarint(dst, 8<<3|wireVarint, uint64(int64(d.Partition))) //nolint:gosec // G115: int32 is sign-extended.
	dst = appendAnyText(dst, 9<<3|wireBytes, d.Position)
	return appendAnyText(dst, 10<<3|wireBytes, d.Credential)
}

// ParseDeadLetter reads b into d, which is zeroed first. Strings and bytes of d alias b, as in ParseMessage; it never
// allocates. Unknown fields are skipped. The error wraps ErrWire and d is then half read.
func ParseDeadLetter(b []byte, d *DeadLetter) error {
	*d = DeadLetter{}
	r := wireReader{b: b}
	for r.next() {
		switch r.tag {
		case 1<<3 | wireBytes:
			d.Topic = r.text()
		case 2<<3 | wireBytes:
			d.Worker = r.text()
		case 3<<3 | wireBytes:
			d.Reason = r.text()
		case 4<<3 | wireBytes:
			d.Payload = r.data
		case 5<<3 | wireFixed64:
			d.ReceivedAt = r.time()
		case 6<<3 | wireBytes:
			d.DeviceID = r.text()
		case 7<<3 | wireBytes:
			d.Tenant = r.text()
		case 8<<3 | wireVarint:
			d.Partition = r.int32()
		case 9<<3 | wireBytes:
			d.Position = r.text()
		case 10<<3 | wireBytes:
			d.Credential = r.text()
		}
	}
	if r.err != nil {
		return fmt.Errorf("dead letter: %w", r.err)
	}
	return nil
}

// Clone returns a copy of d that shares no memory with it.
func (d *DeadLetter) Clone() DeadLetter {
	c := *d
	for _, s := range []*string{&c.Topic, &c.Worker, &c.Reason, &c.Tenant, &c.DeviceID, &c.Position, &c.Credential} {
		*s = strings.Clone(*s)
	}
	c.Payload = append([]byte(nil), d.Payload...)
	return c
}
