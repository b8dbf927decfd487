package bus

import (
	"cmp"
	"time"
)

// What a zero Retention stands for.
const (
	defaultRetentionAge      = 24 * time.Hour
	defaultRetentionBooks    = 30 * 24 * time.Hour
	defaultRetentionBytesMax = 8 << 30
)

// Retention says how long a log keeps records that every group has read. Unread ones always stay.
type Retention struct {
	Age time.Duration // 0 means 24 h
	// Books is Age for the topic Books, by which an audit looks back. 0 means 30 days.
	Books time.Duration
	// BytesMax is the size of a topic, over all partitions and without its replicas, at which what is read is trimmed, and at
	// which Append returns ErrFull when that does not help. 0 means 8 GiB. How it is measured is the driver's affair.
	BytesMax int64
}

// WithDefaults returns r with every default in place.
func (r Retention) WithDefaults() Retention {
	return Retention{
		Age: cmp.Or(r.Age, defaultRetentionAge), Books: cmp.Or(r.Books, defaultRetentionBooks), BytesMax: cmp.Or(r.BytesMax, defaultRetentionBytesMax),
	}
}

// Of returns how long read records of topic stay.
func (r Retention) Of(topic string) time.Duration {
	if topic == Books {
		return r.Books
	}
	return r.Age
}
