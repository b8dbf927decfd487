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
	dst = appendAnyText(dst, 10<<3|wireBytes, d.Credential)
	dst = appendAnyText(dst, 11<<3|wireBytes, d.Context)
	dst = appendAnyText(dst, 12<<3|wireBytes, d.ReplayOf)
	dst = appendAnyText(dst, 13<<3|wireBytes, d.ReplayedBy)
	dst = appendTime(dst, 14<<3|wireFixed64, d.ReplayedAt)
	if d.Deliver {
		dst = appendVarint(dst, 15<<3|wireVarint, 1)
	}
	return appendBytes(dst, 16<<3|wireBytes, d.Repaired)
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
		case 11<<3 | wireBytes:
			d.Context = r.text()
		case 12<<3 | wireBytes:
			d.ReplayOf = r.text()
		case 13<<3 | wireBytes:
			d.ReplayedBy = r.text()
		case 14<<3 | wireFixed64:
			d.ReplayedAt = r.time()
		case 15<<3 | wireVarint:
			d.Deliver = r.num != 0
		case 16<<3 | wireBytes:
			d.Repaired = r.data
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
	for _, s := range []*string{&c.Topic, &c.Worker, &c.Reason, &c.Tenant, &c.DeviceID, &c.Position, &c.Credential, &c.Context, &c.ReplayOf, &c.ReplayedBy} {
		*s = strings.Clone(*s)
	}
	c.Payload = append([]byte(nil), d.Payload...)
	c.Repaired = append([]byte(nil), d.Repaired...)
	return c
}

// AppendRedelivery appends r as protobuf millrace.v1.Redelivery to dst and returns it. Keeps nothing of r.
func AppendRedelivery(dst []byte, r *Redelivery) []byte {
	dst = appendAnyText(dst, 1<<3|wireBytes, r.Worker)
	dst = appendAnyText(dst, 2<<3|wireBytes, r.Topic)
	dst = appendAnyText(dst, 3<<3|wireBytes, r.Origin)
	dst = appendAnyText(dst, 4<<3|wireBytes, r.Letter)
	return appendBytes(dst, 5<<3|wireBytes, r.Value)
}

// ParseRedelivery reads b into d, which is zeroed first. Strings and bytes of d alias b; unknown fields are skipped. The error wraps
// ErrWire and d is then half read.
func ParseRedelivery(b []byte, d *Redelivery) error {
	*d = Redelivery{}
	r := wireReader{b: b}
	for r.next() {
		switch r.tag {
		case 1<<3 | wireBytes:
			d.Worker = r.text()
		case 2<<3 | wireBytes:
			d.Topic = r.text()
		case 3<<3 | wireBytes:
			d.Origin = r.text()
		case 4<<3 | wireBytes:
			d.Letter = r.text()
		case 5<<3 | wireBytes:
			d.Value = r.data
		}
	}
	if r.err != nil {
		return fmt.Errorf("redelivery: %w", r.err)
	}
	return nil
}
