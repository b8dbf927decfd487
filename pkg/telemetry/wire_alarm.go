package telemetry

import (
	"fmt"
	"strings"
)

// AppendAlarm appends a as protobuf millrace.v1.Alarm to dst and returns it. Invalid UTF-8 in a string, which may hold a
// value as a device wrote it, becomes U+FFFD, since protobuf readers refuse it. Keeps nothing of a.
func AppendAlarm(dst []byte, a *Alarm) []byte {
	dst = appendAnyText(dst, 1<<3|wireBytes, a.AlarmID)
	dst = appendAnyText(dst, 2<<3|wireBytes, a.Tenant)
	dst = appendAnyText(dst, 3<<3|wireBytes, a.Rule)
	dst = appendAnyText(dst, 4<<3|wireBytes, a.DeviceID)
	dst = appendAnyText(dst, 5<<3|wireBytes, a.ChannelKey)
	dst = appendAnyText(dst, 6<<3|wireBytes, a.Severity)
	dst = appendAnyText(dst, 7<<3|wireBytes, string(a.State))
	dst = appendAnyText(dst, 8<<3|wireBytes, a.Value)
	dst = appendAnyText(dst, 9<<3|wireBytes, a.PreviousValue)
	dst = appendTime(dst, 10<<3|wireFixed64, a.RaisedAt)
	dst = appendTime(dst, 11<<3|wireFixed64, a.AckedAt)
	dst = appendTime(dst, 12<<3|wireFixed64, a.ClearedAt)
	dst = appendBytes(dst, 13<<3|wireBytes, a.Detail)
	return appendVarint(dst, 14<<3|wireVarint, uint64(a.Revision))
}

// ParseAlarm reads b into a, which is zeroed first. Strings and bytes of a alias b, as in ParseMessage; it never
// allocates. Unknown fields are skipped. The error wraps ErrWire and a is then half read.
func ParseAlarm(b []byte, a *Alarm) error {
	*a = Alarm{}
	r := wireReader{b: b}
	for r.next() {
		switch r.tag {
		case 1<<3 | wireBytes:
			a.AlarmID = r.text()
		case 2<<3 | wireBytes:
			a.Tenant = r.text()
		case 3<<3 | wireBytes:
			a.Rule = r.text()
		case 4<<3 | wireBytes:
			a.DeviceID = r.text()
		case 5<<3 | wireBytes:
			a.ChannelKey = r.text()
		case 6<<3 | wireBytes:
			a.Severity = r.text()
		case 7<<3 | wireBytes:
			a.State = AlarmState(r.text())
		case 8<<3 | wireBytes:
			a.Value = r.text()
		case 9<<3 | wireBytes:
			a.PreviousValue = r.text()
		case 10<<3 | wireFixed64:
			a.RaisedAt = r.time()
		case 11<<3 | wireFixed64:
			a.AckedAt = r.time()
		case 12<<3 | wireFixed64:
			a.ClearedAt = r.time()
		case 13<<3 | wireBytes:
			a.Detail = r.data
		case 14<<3 | wireVarint:
			a.Revision = r.uint32()
		}
	}
	if r.err != nil {
		return fmt.Errorf("alarm: %w", r.err)
	}
	return nil
}

// Clone returns a copy of a that shares no memory with it.
func (a *Alarm) Clone() Alarm {
	c := *a
	for _, s := range []*string{
		&c.AlarmID, &c.Tenant, &c.Rule, &c.DeviceID, &c.ChannelKey, &c.Severity, &c.Value, &c.PreviousValue,
	} {
		*s = strings.Clone(*s)
	}
	c.State = AlarmState(strings.Clone(string(c.State)))
	c.Detail = append([]byte(nil), a.Detail...)
	return c
}

// appendAnyText is appendText for what may not be valid UTF-8.
func appendAnyText(dst []byte, tag uint64, s string) []byte {
	return appendText(dst, tag, strings.ToValidUTF8(s, "\uFFFD"))
}
