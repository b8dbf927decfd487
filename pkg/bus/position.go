package bus

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// PartitionID names one partition of a topic.
type PartitionID struct {
	Topic  string
	Number int
}

// String returns the id as "telemetry[3]".
func (p PartitionID) String() string { return p.Topic + "[" + strconv.Itoa(p.Number) + "]" }

// Position is the place of one record in its partition. Positions of one partition rise; they need not be dense. The zero
// Position is before every record, and so is 0.1, which unlike the zero Position can be committed.
type Position struct {
	Seq   uint64 // Kafka: offset + 1; NATS: stream sequence of the frame
	Index uint32 // NATS: index of the record in its frame; Kafka: 0
}

// Compare returns -1, 0 or 1 as p is before, at or after q.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Seq, q.Seq); c != 0 {
		return c
	}
	return cmp.Compare(p.Index, q.Index)
}

// IsZero reports whether p is before every record.
func (p Position) IsZero() bool { return p == Position{} }

// String returns p as "81.5".
func (p Position) String() string {
	return strconv.FormatUint(p.Seq, 10) + "." + strconv.FormatUint(uint64(p.Index), 10)
}

// ParsePosition reads what Position.String wrote.
func ParsePosition(s string) (Position, error) {
	seq, index, ok := strings.Cut(s, ".")
	if !ok {
		return Position{}, fmt.Errorf("position %q, want sequence.index", s)
	}
	q, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return Position{}, fmt.Errorf("position %q: sequence: %w", s, err)
	}
	i, err := strconv.ParseUint(index, 10, 32)
	if err != nil {
		return Position{}, fmt.Errorf("position %q: index: %w", s, err)
	}
	return Position{Seq: q, Index: uint32(i)}, nil
}

// Origin is the identity of a message for good: the partition number and the position that the topic Ingested gave it.
// The zero Origin is that of records that stem from no single message, such as aggregates.
type Origin struct {
	Partition int32
	Position
}

// ID returns o as "3.81.5": partition, sequence, index.
func (o Origin) ID() string { return strconv.Itoa(int(o.Partition)) + "." + o.String() }

// ParseOrigin reads what Origin.ID wrote.
func ParseOrigin(s string) (Origin, error) {
	partition, position, ok := strings.Cut(s, ".")
	n, err := strconv.ParseInt(partition, 10, 32)
	if !ok || err != nil {
		return Origin{}, fmt.Errorf("%.100q, want partition.sequence.index", s)
	}
	at, err := ParsePosition(position)
	if err != nil {
		return Origin{}, err
	}
	return Origin{Partition: int32(n), Position: at}, nil
}

// Known reports whether o names a message.
func (o Origin) Known() bool { return !o.IsZero() }

// Record is one entry of a partition. Value is the protobuf of what the topic holds (see the topics).
type Record struct {
	Position Position // set by the driver on reading, ignored on Append
	Origin   Origin   // carried by the driver; zero on the topic Ingested, where Position is the origin
	Time     int64    // when the log took it, Unix nanoseconds UTC; set by the driver on reading
	Value    []byte
}

// Progress says how far a reader of one partition has come: the position through which it has taken everything, and, for
// each partition of Ingested from which that stemmed, the highest origin it took. A reader skips a record whose origin is
// not above that (see Origins.Take), so that what a router appended twice counts once.
type Progress struct {
	Through Position
	Origins Origins
}
