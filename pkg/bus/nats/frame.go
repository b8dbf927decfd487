package nats

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
)

// The format of a frame: the version, the number of records, and for each the origin (partition, sequence, index), the length of
// the value, and the value. Numbers are unsigned varints.
const (
	frameVersion        = 1
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

// ParseFrame appends the records of frame to dst. Their values alias frame; Position.Index is set, Position.Seq and Time are
// the caller's to set. On an error dst is returned as it was.
func ParseFrame(dst []bus.Record, frame []byte) ([]bus.Record, error) {
	if len(frame) == 0 || frame[0] != frameVersion {
		return dst, fmt.Errorf("%w: want version %d first", errFrame, frameVersion)
	}
	c := cursor{rest: frame[1:]}
	n := c.number(uint64(len(frame) / recordBytesMin))
	given := len(dst)
	if !c.fault && uint64(cap(dst)-given) < n { //nolint:gosec // a capacity is not below its length
		dst = append(make([]bus.Record, 0, given+int(n)), dst...) //nolint:gosec // bounded by the length of frame
	}
	for i := uint64(0); i < n && !c.fault; i++ {
		dst = append(dst, bus.Record{
			Position: bus.Position{Index: uint32(i)},
			Origin:   c.origin(),
			Value:    c.value(),
		})
	}
	if c.fault || len(c.rest) > 0 {
		return dst[:given], fmt.Errorf("%w: %d bytes of %d do not fit", errFrame, len(c.rest), len(frame))
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
