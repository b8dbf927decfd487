package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/millrace/millrace/pkg/store/archive"
)

const (
	partBytes   = 8 << 20 // of a large object: uploaded in parts of that size
	partsAtOnce = 3       // so that an upload holds 32 MiB
)

// cloud is a bucket of a cloud, by Go's Cloud Development Kit.
type cloud struct {
	bucket *blob.Bucket
}

func inCloud(b *blob.Bucket, prefix string) *cloud {
	if prefix != "" {
		b = blob.PrefixedBucket(b, prefix)
	}
	return &cloud{b}
}

// Write implements archive.Bucket. What is larger than a part is a multi-part upload, which is seen when it is complete.
func (c *cloud) Write(ctx context.Context, key string, exclusive bool, fill func(io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kind := "application/vnd.apache.parquet"
	if strings.HasSuffix(key, ".json") {
		kind = "application/json"
	}
	w, err := c.bucket.NewWriter(ctx, key, &blob.WriterOptions{
		ContentType: kind, IfNotExist: exclusive, BufferSize: partBytes, MaxConcurrency: partsAtOnce,
	})
	if err != nil {
		return known(err)
	}
	if err := fill(w); err != nil {
		cancel() // so that Close completes nothing
		return known(errors.Join(err, w.Close()))
	}
	return known(w.Close())
}

// Copy implements archive.Bucket.
func (c *cloud) Copy(ctx context.Context, to, from string) error {
	return known(c.bucket.Copy(ctx, to, from, nil))
}

// Remove implements archive.Bucket.
func (c *cloud) Remove(ctx context.Context, key string) error {
	err := known(c.bucket.Delete(ctx, key))
	if errors.Is(err, archive.ErrNotFound) {
		return nil
	}
	return err
}

// List implements archive.Bucket.
func (c *cloud) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		objects := c.bucket.List(&blob.ListOptions{Prefix: prefix})
		for {
			o, err := objects.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(archive.Object{}, known(err))
				return
			}
			if !yield(archive.Object{Key: o.Key, Bytes: o.Size, Modified: o.ModTime}, nil) {
				return
			}
		}
	}
}

// Read implements archive.Bucket.
func (c *cloud) Read(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	r, err := c.bucket.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, known(err)
	}
	body, err := io.ReadAll(r)
	return body, known(errors.Join(err, r.Close()))
}

// Close frees the bucket.
func (c *cloud) Close() error { return c.bucket.Close() }

// known gives errors that the archive decides on their names, and says in words what people can do something about.
func known(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, c := range []struct{ code, words string }{
		{"NoSuchBucket", "there is no such bucket"}, // and not ErrNotFound, which is of an object
		{"ContainerNotFound", "there is no such container"},
		{"bucket does not exist", "there is no such bucket"},
		{"SignatureDoesNotMatch", "the secret key is wrong"},
		{"InvalidAccessKeyId", "the server does not know the access key"},
		{"AdminUserNotFound", "the server does not know the access key"}, // Versity's word for it
	} {
		if strings.Contains(text, c.code) {
			return fmt.Errorf("%s: %w", c.words, err)
		}
	}
	switch gcerrors.Code(err) { //nolint:exhaustive // the others pass as they are
	case gcerrors.FailedPrecondition, gcerrors.AlreadyExists:
		return fmt.Errorf("%w: %w", archive.ErrExists, err)
	case gcerrors.NotFound:
		return fmt.Errorf("%w: %w", archive.ErrNotFound, err)
	case gcerrors.PermissionDenied:
		return fmt.Errorf("the server refuses: look at the access key and at what it may do with the bucket: %w", err)
	}
	return err
}
