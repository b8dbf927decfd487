package nats

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/millrace/millrace/pkg/bus"
)

// The format of a frame: the version, the number of records, and for each the origin (partition, sequence, index), the length of
// the value, and the value. Numbers are unsigned varints. A packed frame is its own version and an S2 block (the extension of
// Snappy in klauspost/compress) of everything behind the version.
const (
	frameVersion        = 1
	framePacked         = 2
	frameUnpackedMax    = 8 << 20 // bytes; what claims to be more is refused
	frameWorthPacking   = 512     // bytes; less has nothing to gain
	frameHeaderBytesMax = 1 + binary.MaxVarintLen32
	recordHeaderBytes   = 2*binary.MaxVarintLen32 + binary.MaxVarintLen64 + binary.MaxVarintLen32 // at most
	recordBytesMin      = 4
)

var errFrame = errors.New("not a frame of records")

// AppendFrame appends one frame of recs to dst. Position and Time are not part of it: the log gives them.
func AppendFrame(dst []byte, recs []bus.Record) []byte {
	dst = append(dst, frameVersion)
	dst = binary.AppendUvarint(dst, uint64(len(recs)))
	for i := range recs {
		r := &recs[i]
		dst = binary.AppendUvarint(dst, uint64(uint32(r.Origin.Partition))) //nolint:gosec // partitions are not negative
		dst = binary.AppendUvarint(dst, r.Origin.Seq)
		dst = binary.AppendUvarint(dst, uint64(r.Origin.Index))
		dst = binary.AppendUvarint(dst, uint64(len(r.Value)))
		dst = append(dst, r.Value...)
	}
	return dst
}

// PackFrame appends the compressed form of frame to dst, or frame itself where that is not smaller. What one partition's
// devices say resembles itself: a frame shrinks to a quarter, and so does what the log writes, syncs, and hands to each reader.
// On one core it packs about 1 GB a second, and unpacks more.
func PackFrame(dst, frame []byte) []byte {
	if len(frame) < frameWorthPacking {
		return append(dst, frame...)
	}
	start := len(dst)
	dst = append(slices.Grow(dst, 1+s2.MaxEncodedLen(len(frame)-1)), framePacked)
	block := s2.Encode(dst[len(dst):cap(dst)], frame[1:])
	if 1+len(block) >= len(frame) {
		return append(dst[:start], frame...)
	}
	return dst[:len(dst)+len(block)]
}

// unpack returns what stands behind the version of frame.
func unpack(frame []byte) ([]byte, error) {
	switch {
	case len(frame) > 0 && frame[0] == frameVersion:
		return frame[1:], nil
	case len(frame) == 0 || frame[0] != framePacked:
		return nil, fmt.Errorf("%w: want version %d or %d first", errFrame, frameVersion, framePacked)
	}
	if n, err := s2.DecodedLen(frame[1:]); err != nil || n > frameUnpackedMax {
		return nil, fmt.Errorf("%w: a packed frame of %d bytes, want at most %d: %w", errFrame, n, frameUnpackedMax, err)
	}
	body, err := s2.Decode(nil, frame[1:])
	if err != nil {
		return nil, fmt.Errorf("%w: unpack: %w", errFrame, err)
	}
	return body, nil
}

// fitting returns how many of recs fit into a frame of limit bytes: at least one, which may be larger by itself.
func fitting(recs []bus.Record, limit int) int {
	size := frameHeaderBytesMax
	for i := range recs {
		size += recordHeaderBytes + len(recs[i].Value)
		if size > limit && i > 0 {
			return i
		}
	}
	return len(recs)
}

// ParseFrame appends the records of frame, packed or not, to dst. Their values alias frame unless it was packed; Position.Index is set, Position.Seq and Time are
// the caller's to set. On an error dst is returned as it was.
func ParseFrame(dst []bus.Record, frame []byte) ([]bus.Record, error) {
	body, err := unpack(frame)
	if err != nil {
		return dst, err
	}
	c := cursor{rest: body}
	n := c.number(uint64(len(body) / recordBytesMin))
	given := len(dst)
	if !c.fault && uint64(cap(dst)-given) < n { //nolint:gosec // a capacity is not below its length
		dst = append(make([]bus.Record, 0, given+int(n)), dst...) //nolint:gosec // bounded by the length of body
	}
	for i := uint64(0); i < n && !c.fault; i++ {
		dst = append(dst, bus.Record{
			Position: bus.Position{Index: uint32(i)},
			Origin:   c.origin(),
			Value:    c.value(),
		})
	}
	if c.fault || len(c.rest) > 0 {
		return dst[:given], fmt.Errorf("%w: %d bytes of %d do not fit", errFrame, len(c.rest), len(body))
	}
	return dst, nil
}

// cursor reads a frame from its front, until the first fault.
type cursor struct {
	rest  []byte
	fault bool
}

func (c *cursor) number(limit uint64) uint64 {
	v, n := binary.Uvarint(c.rest)
	if c.fault || n <= 0 || v > limit {
		c.fault = true
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) origin() bus.Origin {
	const max31, max32, max64 = 1<<31 - 1, 1<<32 - 1, 1<<64 - 1
	var o bus.Origin
	o.Partition = int32(c.number(max31)) //nolint:gosec // bounded by its limit
	o.Seq = c.number(max64)
	o.Index = uint32(c.number(max32)) //nolint:gosec // bounded by its limit
	return o
}

func (c *cursor) value() []byte {
	n := c.number(uint64(len(c.rest)))
	if c.fault || n > uint64(len(c.rest)) {
		c.fault = true
		return nil
	}
	v := c.rest[:n:n]
	c.rest = c.rest[n:]
	return v
}
