package bus

import (
	"context"
	"errors"
	"iter"
	"strings"
)

var (
	// ErrFull is returned by Append when keeping what is unread leaves no room: nothing was appended. The edge answers its
	// senders with it (503, no PUBACK); a worker waits and tries again.
	ErrFull = errors.New("the log is full: unread records fill its configured size")
	// ErrTooLarge is returned by Append for a record that the log can never take.
	ErrTooLarge = errors.New("the record is larger than the log takes")
	// ErrUnknownTopic is returned for a topic that neither Topics nor the configuration names.
	ErrUnknownTopic = errors.New("unknown topic")
)

// OnlookerPrefix begins the name of a group for which the log keeps nothing: what such a group has not read is trimmed like what
// it has. It is for readers that would rather miss something than fill the log.
const OnlookerPrefix = "~"

// Onlooker reports whether group is one for which the log keeps nothing.
func Onlooker(group string) bool { return strings.HasPrefix(group, OnlookerPrefix) }

// Appender is the writing half of a Log.
type Appender interface {
	// Append puts recs at the end of partition p, in order. When it returns nil they are on disk. ErrFull and ErrTooLarge
	// say that none is; on any other error nobody knows, so the caller sends the same records again and readers drop the
	// double (see Origin; a driver drops it earlier where its engine helps). Safe for concurrent use; appends to one
	// partition by several callers are ordered somehow, each one's own in the order of its calls. Keeps neither recs nor
	// its bytes.
	Append(ctx context.Context, p PartitionID, recs []Record) error
	// Partitions returns the number of partitions of topic, from 1, the same for every topic that shares devices.
	Partitions(topic string) int
}

// Log is what a driver implements.
type Log interface {
	Appender
	// Subscribe joins group and calls own for each share this member gets, each in a goroutine of its own. own's ctx ends
	// when the share is lost or ctx ends; the share is given away only after own has returned, and Subscribe returns only
	// after every own has: nil when ctx ended and every own returned nil, else the first error. An own that returns while
	// its ctx lives ends the subscription.
	Subscribe(ctx context.Context, group string, topics []string, own func(context.Context, Share) error) error
	// Partition opens a partition for reading outside of any group. Commit on it is an error.
	Partition(ctx context.Context, id PartitionID) (Partition, error)
	// Reached returns how far group, of which the caller need not be a member, has committed partition id; zero where it has committed
	// nothing. It may be a moment old and is never ahead.
	Reached(ctx context.Context, group string, id PartitionID) (Position, error)
	// Close ends everything that is under way. What Append acknowledged stays.
	Close() error
}

// Share is what a member of a group owns as a whole: one partition number, of every topic that the group reads. So all
// that the bus has of one device is in one share.
type Share struct {
	Number     int
	Partitions []Partition // in the order of Subscribe's topics
}

// Partition is one partition, open for reading.
type Partition interface {
	ID() PartitionID
	// After yields the records from start on, in order, in batches, waiting for more at the end. It stops without an error
	// when ctx ends, and with one when reading broke; the caller then calls it again from where it was. Each batch is the
	// caller's to keep. If start's position was trimmed away it begins at the earliest record there is.
	After(ctx context.Context, start Start) iter.Seq2[Batch, error]
	// Committed returns what Commit last recorded for the group; ok is false where there is nothing.
	Committed(ctx context.Context) (progress Progress, ok bool, err error)
	// Commit durably records the progress of the group. Where a store keeps the progress itself, the commit only tells the
	// log what it may trim. A commit that is behind an earlier one changes nothing. ErrLost says that the member no longer owns the
	// share, where the log knows that.
	Commit(ctx context.Context, progress Progress) error
	// End returns the position of the newest record, zero in an empty partition.
	End(ctx context.Context) (Position, error)
}

// Batch is a run of records of one partition in their order; never empty.
type Batch struct {
	Records []Record
}

// Last returns the position of the batch's newest record.
func (b Batch) Last() Position { return b.Records[len(b.Records)-1].Position }

// Start says where After begins: after a Position, or at the first record not older than Time, or past the newest. The zero
// Start is the earliest record.
type Start struct {
	Position Position
	Time     int64 // Unix nanoseconds UTC; 0 means "go by Position"
	Newest   bool  // only what is appended from now on
}
