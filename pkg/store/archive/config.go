package archive

import (
	"cmp"
	"errors"
	"log/slog"
	"time"
)

// Config says where and how the archive is kept. Bucket and Now are required; every other zero value means the default named
// beside it.
type Config struct {
	Bucket Bucket

	FileAge     time.Duration // age of the oldest row in memory that makes a flush; 10 min
	FileBytes   int64         // bytes of memory, of all partitions together, that make a flush; 128 MiB: 12 to 25 MiB of Parquet
	MemoryBytes int64         // limit of the rows in memory, beyond which Write waits; four times FileBytes

	RowGroupRows int           // rows of a row group; 65,536
	Uploads      int           // files on their way at once; 4
	Retention    time.Duration // files of days that ended so long ago are deleted; 0 keeps everything, or leaves it to the bucket's rules
	UpkeepEvery  time.Duration // between two looks for what crashes left and for what is to be deleted; 1 h. Negative means never by itself.

	Metrics *Metrics         // nil counts nothing
	Log     *slog.Logger     // slog.DiscardHandler
	Now     func() time.Time // required
}

func (c Config) withDefaults() (Config, error) {
	if c.Bucket == nil {
		return c, errors.New("archive: Bucket: nil, want one")
	}
	if c.Now == nil {
		return c, errors.New("archive: Now: nil, want a clock")
	}
	c.Bucket = bounded{c.Bucket}
	c.FileAge = cmp.Or(c.FileAge, 10*time.Minute)
	c.FileBytes = cmp.Or(c.FileBytes, 128<<20)
	c.MemoryBytes = cmp.Or(c.MemoryBytes, 4*c.FileBytes)
	c.RowGroupRows = cmp.Or(c.RowGroupRows, 65536)
	c.Uploads = cmp.Or(c.Uploads, 4)
	c.UpkeepEvery = cmp.Or(c.UpkeepEvery, time.Hour)
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
