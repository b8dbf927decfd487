package loadtest

import (
	"strconv"
	"time"
)

// Message appends the n-th message of a device to dst: the Channel JSON of a gateway, about 230 bytes, unique by device and
// timestamp. The value is n modulo 1000, so that sums can be told beforehand.
func Message(dst []byte, device, n int, at time.Time) []byte {
	dst = append(dst, `{"MessageType":"Channel","DeviceId":"`...)
	dst = AppendDevice(dst, device)
	dst = append(dst, `","DeviceType":"LoadGenerator_v1","ChannelType":"number","ChannelKey":"reading","ChannelValue":"`...)
	dst = strconv.AppendInt(dst, int64(n%1000), 10)
	dst = append(dst, `","LocalTimestamp":"`...)
	dst = at.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000000Z")
	return append(dst, `"}`...)
}

// AppendDevice appends the id of a device, such as "load-00042".
func AppendDevice(dst []byte, device int) []byte {
	const digits = 5
	dst = append(dst, "load-"...)
	text := strconv.Itoa(device)
	for range digits - len(text) {
		dst = append(dst, '0')
	}
	return append(dst, text...)
}
