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
	URL       string        `yaml:"url" doc:"Where the archive is: s3://bucket/prefix, gs://…, azblob://… or file:///directory, with the parameters that Go's CDK takes; empty means that there is none beside history."`
	AccessKey string        `yaml:"access_key" doc:"Access key of S3; empty means what the environment has."`
	SecretKey config.Secret `yaml:"secret_key" doc:"Secret key of S3."`
	FileAge   time.Duration `yaml:"file_age" doc:"Age at which the rows in memory become files."`
	FileBytes config.Bytes  `yaml:"file_bytes" doc:"Size, in memory, at which the rows of one partition become files."`
	Memory    config.Bytes  `yaml:"memory" doc:"Memory for rows that are in no file yet."`
}

// DefaultArchive returns the section's defaults.
func DefaultArchive() ArchiveConfig {
	return ArchiveConfig{FileAge: 10 * time.Minute, FileBytes: 64 << 20, Memory: 256 << 20}
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
	const least = 1 << 20
	if c.FileBytes < least || c.Memory < c.FileBytes {
		errs = append(errs, fmt.Errorf("file_bytes, memory: %v and %v, want at least 1MiB, and memory no less than file_bytes", c.FileBytes, c.Memory))
	}
	return errors.Join(errs...)
}
