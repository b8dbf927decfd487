package telemetry

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// MessageIDMax is the longest id that is kept as the device wrote it, in bytes; of a longer one its hash is kept.
const MessageIDMax = 128

// hashSeed makes the second half of a hash independent of the first.
const hashSeed = 0x9e3779b97f4a7c15

// hashID returns "h:" and 128 bits in hexadecimal of what makes the record in hand this one and no other: device, channel,
// time and bytes. Only a device's own messages are compared by it, so a hash that is quick will do.
func (u *unit) hashID(m *Message) string {
	t := m.DeviceTime // what the device said: the same again when it sends again
	if t == 0 {
		t = m.EventTime
	}
	var buf [8 + 1 + DeviceIDMax + 2 + ChannelKeyMax + 8]byte
	head := binary.LittleEndian.AppendUint64(buf[:0], uint64(t)) //nolint:gosec // G115: bits, not a number.
	head = append(binary.AppendUvarint(head, uint64(len(m.DeviceID))), m.DeviceID...)
	head = append(binary.AppendUvarint(head, uint64(len(m.ChannelKey))), m.ChannelKey...)
	return u.hash(head, u.raw)
}

// hash returns "h:" and 128 bits of what head and body are together.
func (u *unit) hash(head, body []byte) string {
	var low, high xxhash.Digest
	low.Reset()
	high.ResetWithSeed(hashSeed)
	_, _ = low.Write(head) // a digest returns no error
	_, _ = low.Write(body)
	_, _ = high.Write(head)
	_, _ = high.Write(body)
	var sum [16]byte
	binary.BigEndian.PutUint64(sum[:], low.Sum64())
	binary.BigEndian.PutUint64(sum[8:], high.Sum64())
	a := &u.arena
	a.need(2 + 2*len(sum))
	mark := len(a.chunk)
	a.chunk = hex.AppendEncode(append(a.chunk, "h:"...), sum[:])
	return alias(a.since(mark))
}

// boundedID returns id, or its hash if it is too long to be remembered.
func (u *unit) boundedID(id string) string {
	if len(id) <= MessageIDMax {
		return id
	}
	return u.hash(nil, []byte(id))
}

// numberedID returns id + "/" + n.
func (u *unit) numberedID(id string, n int) string {
	a := &u.arena
	a.need(len(id) + 21)
	mark := len(a.chunk)
	a.chunk = append(append(a.chunk, id...), '/')
	a.chunk = strconv.AppendInt(a.chunk, int64(n), 10)
	return alias(a.since(mark))
}
