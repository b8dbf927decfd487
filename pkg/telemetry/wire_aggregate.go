package telemetry

import "fmt"

// AppendAggregate appends a as protobuf millrace.v1.Aggregate to dst and returns it. Keeps nothing of a.
func AppendAggregate(dst []byte, a *Aggregate) []byte {
	dst = appendText(dst, 1<<3|wireBytes, a.Tenant)
	dst = appendText(dst, 2<<3|wireBytes, a.DeviceID)
	dst = appendText(dst, 3<<3|wireBytes, a.ChannelKey)
	dst = appendTime(dst, 4<<3|wireFixed64, a.WindowStart)
	dst = appendVarint(dst, 5<<3|wireVarint, uint64(a.WindowLength)) //nolint:gosec // G115: int64 is two's complement.
	dst = appendVarint(dst, 6<<3|wireVarint, a.Count)
	dst = appendFloat(dst, 7<<3|wireFixed64, a.Min)
	dst = appendFloat(dst, 8<<3|wireFixed64, a.Max)
	dst = appendFloat(dst, 9<<3|wireFixed64, a.Sum)
	dst = appendFloat(dst, 10<<3|wireFixed64, a.First)
	dst = appendFloat(dst, 11<<3|wireFixed64, a.Last)
	dst = appendFloat(dst, 12<<3|wireFixed64, a.P50)
	dst = appendFloat(dst, 13<<3|wireFixed64, a.P95)
	dst = appendFloat(dst, 14<<3|wireFixed64, a.P99)
	dst = appendVarint(dst, 15<<3|wireVarint, uint64(a.Revision))
	if a.Final {
		dst = appendVarint(dst, 16<<3|wireVarint, 1)
	}
	dst = appendText(dst, 17<<3|wireBytes, a.DeviceType)
	dst = appendTime(dst, 18<<3|wireFixed64, a.FirstTime)
	return appendTime(dst, 19<<3|wireFixed64, a.LastTime)
}

// ParseAggregate reads b into a, which is zeroed first. Strings of a alias b, as in ParseMessage; it never allocates.
// Unknown fields are skipped. The error wraps ErrWire and a is then half read.
func ParseAggregate(b []byte, a *Aggregate) error {
	*a = Aggregate{}
	r := wireReader{b: b}
	for r.next() {
		switch r.tag {
		case 1<<3 | wireBytes:
			a.Tenant = r.text()
		case 2<<3 | wireBytes:
			a.DeviceID = r.text()
		case 3<<3 | wireBytes:
			a.ChannelKey = r.text()
		case 4<<3 | wireFixed64:
			a.WindowStart = r.time()
		case 5<<3 | wireVarint:
			a.WindowLength = r.int64()
		case 6<<3 | wireVarint:
			a.Count = r.num
		case 7<<3 | wireFixed64:
			a.Min = r.float()
		case 8<<3 | wireFixed64:
			a.Max = r.float()
		case 9<<3 | wireFixed64:
			a.Sum = r.float()
		case 10<<3 | wireFixed64:
			a.First = r.float()
		case 11<<3 | wireFixed64:
			a.Last = r.float()
		case 12<<3 | wireFixed64:
			a.P50 = r.float()
		case 13<<3 | wireFixed64:
			a.P95 = r.float()
		case 14<<3 | wireFixed64:
			a.P99 = r.float()
		case 15<<3 | wireVarint:
			a.Revision = r.uint32()
		case 16<<3 | wireVarint:
			a.Final = r.num != 0
		case 17<<3 | wireBytes:
			a.DeviceType = r.text()
		case 18<<3 | wireFixed64:
			a.FirstTime = r.time()
		case 19<<3 | wireFixed64:
			a.LastTime = r.time()
		}
	}
	if r.err != nil {
		return fmt.Errorf("aggregate: %w", r.err)
	}
	return nil
}
