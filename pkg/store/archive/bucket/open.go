// Package bucket opens the bucket of an archive by its URL: S3 or whatever speaks its protocol, Google Cloud Storage, Azure
// blobs, or a folder. It is a package of its own since the clouds' libraries make a binary large: only who opens by URL imports it.
package bucket

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"strings"

	"github.com/millrace/millrace/pkg/store/archive"
)

// Bucket is an archive.Bucket that is closed after its archive.
type Bucket interface {
	archive.Bucket
	Close() error
}

// Config says which bucket.
type Config struct {
	// URL is one of
	//
	//	s3://BUCKET/PREFIX?region=…&endpoint=https://…   any S3 endpoint; further parameters: see openS3
	//	gs://BUCKET/PREFIX                               Google Cloud Storage
	//	azblob://CONTAINER/PREFIX?storage_account=…      Azure blobs
	//	file:///FOLDER                                   a disk or a share with hard links; made where it is missing
	URL string
	// AccessKey and SecretKey are S3's key pair; SecretKey alone is the account key of Azure, or the JSON of a service account of
	// Google. Where they are empty, the environment says who we are, as in the clouds' own tools.
	AccessKey, SecretKey string
	TLS                  *tls.Config // nil: the system's
}

// Open opens a bucket. It connects only as far as the cloud's library does, so that a wrong secret may show only with the first use.
func Open(ctx context.Context, cfg Config) (Bucket, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("archive: url: %w", err)
	}
	var b Bucket
	switch u.Scheme {
	case "s3":
		b, err = openS3(ctx, cfg, u)
	case "gs":
		b, err = openGoogle(ctx, cfg, u)
	case "azblob":
		b, err = openAzure(ctx, cfg, u)
	case "file":
		b, err = openFolder(u)
	default:
		err = fmt.Errorf("scheme %q, want s3, gs, azblob or file", u.Scheme)
	}
	if err != nil {
		u.RawQuery = "" // may hold what is nobody's business
		return nil, fmt.Errorf("archive: open %s: %w", u.Redacted(), err)
	}
	return b, nil
}

// prefixOf returns the path of u as a prefix of keys: empty, or one that ends in a slash.
func prefixOf(u *url.URL) string {
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	return prefix
}

// unknown returns an error that names a parameter of q that is not among known.
func unknown(q url.Values, known ...string) error {
	for name := range q {
		found := false
		for _, k := range known {
			found = found || k == name
		}
		if !found {
			return fmt.Errorf("parameter %q, want one of %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}
