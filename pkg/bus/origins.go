package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Origins holds the highest origin taken for each partition of Ingested, sorted by partition. It is short: one entry,
// unless the number of partitions was changed.
type Origins []Origin

// Take reports whether o is above what was taken before from its partition, and if so remembers it. An unknown origin is
// always taken.
func (s *Origins) Take(o Origin) bool {
	if !o.Known() || !idempotent {
		return true
	}
	for i := range *s {
		if (*s)[i].Partition != o.Partition {
			continue
		}
		if o.Compare((*s)[i].Position) <= 0 {
			return false
		}
		(*s)[i].Position = o.Position
		return true
	}
	at, _ := slices.BinarySearchFunc(*s, o.Partition, func(e Origin, p int32) int { return int(e.Partition) - int(p) })
	*s = slices.Insert(*s, at, o)
	return true
}

// Clone returns a copy that shares nothing with p.
func (p Progress) Clone() Progress {
	return Progress{Through: p.Through, Origins: slices.Clone(p.Origins)}
}

var errProgress = errors.New("progress: not the bytes that AppendBinary wrote")

// AppendBinary appends p to dst as unsigned varints: 1 (the version), sequence and index of Through, the number of origins,
// and partition, sequence and index of each.
func (p Progress) AppendBinary(dst []byte) []byte {
	dst = append(dst, 1)
	dst = appendPosition(dst, p.Through)
	dst = binary.AppendUvarint(dst, uint64(len(p.Origins)))
	for _, o := range p.Origins {
		dst = binary.AppendUvarint(dst, uint64(uint32(o.Partition))) //nolint:gosec // partitions are small and not negative
		dst = appendPosition(dst, o.Position)
	}
	return dst
}

func appendPosition(dst []byte, p Position) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, p.Seq), uint64(p.Index))
}

// ParseProgress reads what AppendBinary wrote.
func ParseProgress(b []byte) (Progress, error) {
	if len(b) == 0 || b[0] != 1 {
		return Progress{}, errProgress
	}
	b = b[1:]
	fault := false
	next := func(limit uint64) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > limit {
			fault = true
			return 0
		}
		b = b[n:]
		return v
	}
	const any64, any32, partitionsMax = ^uint64(0), uint64(^uint32(0)), 1 << 20
	p := Progress{Through: Position{Seq: next(any64), Index: uint32(next(any32))}} //nolint:gosec // bounded by next
	for range next(partitionsMax) {
		o := Origin{Partition: int32(next(partitionsMax))}                  //nolint:gosec // bounded by next
		o.Position = Position{Seq: next(any64), Index: uint32(next(any32))} //nolint:gosec // bounded by next
		if fault {
			break
		}
		p.Origins = append(p.Origins, o)
	}
	if fault || len(b) > 0 {
		return Progress{}, fmt.Errorf("%w (%d bytes left over)", errProgress, len(b))
	}
	return p, nil
}
