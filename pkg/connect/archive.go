package connect

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/millrace/millrace/pkg/config"
)

// ArchiveConfig is the section "archive" of the configuration file: the archive on object storage, beside history.
type ArchiveConfig struct {
	URL       string        `yaml:"url" doc:"Where the archive is: s3://bucket/prefix?region=…&endpoint=https://…, gs://bucket/prefix, azblob://container/prefix?storage_account=… or file:///folder; empty means that there is none beside history."`
	AccessKey string        `yaml:"access_key" doc:"Access key of S3; empty means what the environment has."`
	SecretKey config.Secret `yaml:"secret_key" doc:"Secret key of S3, account key of Azure, or the JSON of a service account of Google."`
	TLS       ClientTLS     `yaml:"tls" doc:"TLS towards the object storage."`
	FileAge   time.Duration `yaml:"file_age" doc:"Age at which the rows in memory become files."`
	FileBytes config.Bytes  `yaml:"file_bytes" doc:"Memory of rows, of all partitions together, at which they become files; the files are 5 to 10 times smaller."`
	Memory    config.Bytes  `yaml:"memory" doc:"Memory for rows that are in no file yet; when it is full, writing waits."`
	Retention time.Duration `yaml:"retention" doc:"How long files are kept, by event time; 0 means for ever, or as long as the rules of the bucket say."`
}

// DefaultArchive returns the section's defaults.
func DefaultArchive() ArchiveConfig {
	return ArchiveConfig{FileAge: 10 * time.Minute, FileBytes: 128 << 20, Memory: 512 << 20}
}

// Validate reports every fault by its key.
func (c ArchiveConfig) Validate() error {
	var errs []error
	if c.URL != "" {
		if u, err := url.Parse(c.URL); err != nil || u.Scheme == "" {
			errs = append(errs, fmt.Errorf("url: %q, want s3://bucket/prefix, gs://…, azblob://… or file:///directory", c.URL))
		}
	}
	if c.FileAge <= 0 {
		errs = append(errs, fmt.Errorf("file_age: %v, want more than 0s", c.FileAge))
	}
	if c.Retention < 0 {
		errs = append(errs, fmt.Errorf("retention: %v, want 0s or more", c.Retention))
	}
	if err := c.TLS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("tls.%w", err))
	}
	const least = 1 << 20
	if c.FileBytes < least || c.Memory < c.FileBytes {
		errs = append(errs, fmt.Errorf("file_bytes, memory: %v and %v, want at least 1MiB, and memory no less than file_bytes", c.FileBytes, c.Memory))
	}
	return errors.Join(errs...)
}
