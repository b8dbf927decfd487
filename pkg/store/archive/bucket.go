package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// Errors of a Bucket that the archive decides on.
var (
	ErrExists   = errors.New("there is such an object already")
	ErrNotFound = errors.New("there is no such object")
)

// Object is one entry of a list.
type Object struct {
	Key      string
	Bytes    int64
	Modified time.Time // by the server's clock
}

// Bucket is what the archive asks of an object store; package bucket opens one by its URL. A list shows what was written before it
// began (S3, GCS and Azure do). Safe for concurrent use; nothing is tried again.
type Bucket interface {
	// Write stores what fill writes under key in one step and durably. With exclusive it returns ErrExists, and changes nothing,
	// where there is such an object. After another error nobody knows whether it was stored; it never is in part.
	Write(ctx context.Context, key string, exclusive bool, fill func(io.Writer) error) error
	// Copy stores the object from under to as well, in one step and durably. ErrNotFound: there is no from.
	Copy(ctx context.Context, to, from string) error
	// Remove deletes an object; one that is not there is nothing to do.
	Remove(ctx context.Context, key string) error
	// List yields the objects whose keys begin with prefix, by their keys. An error ends it.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Read returns length bytes of an object from offset on, fewer at its end; all from there where length is negative.
	// ErrNotFound: there is no such object.
	Read(ctx context.Context, key string, offset, length int64) ([]byte, error)
}

// Aborter is a Bucket whose unfinished uploads stay, unseen and paid for, until they are ended.
type Aborter interface {
	// AbortUploads ends the uploads under prefix that began before then.
	AbortUploads(ctx context.Context, prefix string, before time.Time) (ended int, err error)
}

// The longest that a call may take, so that a server that hangs shows as an error.
const (
	quickTimeout = 30 * time.Second // records, lists, deletions
	dataTimeout  = 5 * time.Minute  // a file on its way
)

// bounded is a bucket whose calls end.
type bounded struct{ Bucket }

func (b bounded) Write(ctx context.Context, key string, exclusive bool, fill func(io.Writer) error) error {
	limit := dataTimeout
	if exclusive { // a record
		limit = quickTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return named("write", key, b.Bucket.Write(ctx, key, exclusive, fill))
}

func (b bounded) Copy(ctx context.Context, to, from string) error {
	ctx, cancel := context.WithTimeout(ctx, dataTimeout)
	defer cancel()
	return named("copy", from, b.Bucket.Copy(ctx, to, from))
}

func (b bounded) Remove(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	return named("remove", key, b.Bucket.Remove(ctx, key))
}

func (b bounded) Read(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, dataTimeout)
	defer cancel()
	body, err := b.Bucket.Read(ctx, key, offset, length)
	return body, named("read", key, err)
}

func (b bounded) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		ctx, cancel := context.WithTimeout(ctx, dataTimeout)
		defer cancel()
		for o, err := range b.Bucket.List(ctx, prefix) {
			if !yield(o, named("list", prefix, err)) {
				return
			}
		}
	}
}

func named(what, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, key, err)
}
