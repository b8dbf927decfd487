package telemetry

import (
	"encoding/binary"
	"fmt"
)

const tagAccountLine = 9<<3 | wireBytes

// AppendAccount appends a as protobuf millrace.v1.Account to dst and returns it. Keeps nothing of a.
func AppendAccount(dst []byte, a *Account) []byte {
	dst = appendAnyText(dst, 1<<3|wireBytes, a.Writer)
	dst = appendVarint(dst, 2<<3|wireVarint, a.Number)
	dst = appendAnyText(dst, 3<<3|wireBytes, a.Worker)
	dst = appendVarint(dst, 4<<3|wireVarint, uint64(int64(a.Partition))) //nolint:gosec // G115: int32 is sign-extended.
	dst = appendAnyText(dst, 5<<3|wireBytes, a.After)
	dst = appendAnyText(dst, 6<<3|wireBytes, a.Through)
	dst = appendVarint(dst, 7<<3|wireVarint, uint64(a.Part))
	dst = appendVarint(dst, 8<<3|wireVarint, uint64(a.Parts))
	var room [256]byte
	line := room[:0]
	for i := range a.Lines {
		line = appendAccountLine(line[:0], &a.Lines[i])
		dst = binary.AppendUvarint(appendTag(dst, tagAccountLine), uint64(len(line)))
		dst = append(dst, line...)
	}
	return dst
}

func appendAccountLine(dst []byte, l *AccountLine) []byte {
	dst = appendAnyText(dst, 1<<3|wireBytes, l.Tenant)
	dst = appendAnyText(dst, 2<<3|wireBytes, l.DeviceID)
	dst = appendVarint(dst, 3<<3|wireVarint, uint64(l.Minute)) //nolint:gosec // G115: int64 is two's complement.
	dst = appendVarint(dst, 4<<3|wireVarint, l.Accepted)
	dst = appendVarint(dst, 5<<3|wireVarint, l.EdgeLetters)
	dst = appendVarint(dst, 6<<3|wireVarint, l.Read)
	dst = appendVarint(dst, 7<<3|wireVarint, l.Repeats)
	dst = appendVarint(dst, 8<<3|wireVarint, l.Refused)
	dst = appendVarint(dst, 9<<3|wireVarint, l.Telemetry)
	dst = appendVarint(dst, 10<<3|wireVarint, l.Logs)
	dst = appendVarint(dst, 11<<3|wireVarint, l.Events)
	return appendVarint(dst, 12<<3|wireVarint, l.RouterLetters)
}

// ParseAccount reads b into a, which is zeroed first but for the memory of its Lines. Strings of a alias b, as in ParseMessage. Unknown
// fields are skipped. The error wraps ErrWire and a is then half read.
func ParseAccount(b []byte, a *Account) error {
	*a = Account{Lines: a.Lines[:0]}
	r := wireReader{b: b}
	for r.next() {
		switch r.tag {
		case 1<<3 | wireBytes:
			a.Writer = r.text()
		case 2<<3 | wireVarint:
			a.Number = r.num
		case 3<<3 | wireBytes:
			a.Worker = r.text()
		case 4<<3 | wireVarint:
			a.Partition = r.int32()
		case 5<<3 | wireBytes:
			a.After = r.text()
		case 6<<3 | wireBytes:
			a.Through = r.text()
		case 7<<3 | wireVarint:
			a.Part = r.uint32()
		case 8<<3 | wireVarint:
			a.Parts = r.uint32()
		case tagAccountLine:
			a.Lines = append(a.Lines, AccountLine{})
			if err := parseAccountLine(r.data, &a.Lines[len(a.Lines)-1]); err != nil {
				return fmt.Errorf("account: line %d: %w", len(a.Lines), err)
			}
		}
	}
	if r.err != nil {
		return fmt.Errorf("account: %w", r.err)
	}
	return nil
}

func parseAccountLine(b []byte, l *AccountLine) error {
	r := wireReader{b: b}
	for r.next() {
		switch r.tag {
		case 1<<3 | wireBytes:
			l.Tenant = r.text()
		case 2<<3 | wireBytes:
			l.DeviceID = r.text()
		case 3<<3 | wireVarint:
			l.Minute = r.int64()
		case 4<<3 | wireVarint:
			l.Accepted = r.num
		case 5<<3 | wireVarint:
			l.EdgeLetters = r.num
		case 6<<3 | wireVarint:
			l.Read = r.num
		case 7<<3 | wireVarint:
			l.Repeats = r.num
		case 8<<3 | wireVarint:
			l.Refused = r.num
		case 9<<3 | wireVarint:
			l.Telemetry = r.num
		case 10<<3 | wireVarint:
			l.Logs = r.num
		case 11<<3 | wireVarint:
			l.Events = r.num
		case 12<<3 | wireVarint:
			l.RouterLetters = r.num
		}
	}
	return r.err
}

// PeekAccepted reads of an encoded message only what the edge's account is by. Strings alias b, as in ParseMessage; it never
// allocates. It stops as soon as it has all three, so a fault behind them is not found.
func PeekAccepted(b []byte) (tenant, device string, ingested Time, err error) {
	r := wireReader{b: b}
	missing := 3
	for missing > 0 && r.next() {
		switch r.tag {
		case tagTenant:
			tenant = r.text()
		case tagDeviceID:
			device = r.text()
		case tagIngestTime:
			ingested = r.time()
		default:
			continue
		}
		missing--
	}
	if r.err != nil {
		return "", "", 0, fmt.Errorf("message header: %w", r.err)
	}
	return tenant, device, ingested, nil
}
