package parquet

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// Config says where and how history is kept. Dir is required; every other zero value means the default named beside it.
type Config struct {
	Dir      string // of the archive; created where it is missing
	Manifest string // path of the manifest; Dir/manifest.json
	// Copy is the path of a second manifest, written after the first, which stands in for one that is damaged, gone or an older copy;
	// Dir/.manifest.copy
	Copy string
	// Aside is the folder, outside of Dir, to which damaged files are moved; "" leaves them where they are, with ".damaged" behind their names.
	Aside string
	// Found is told of whatever is found damaged, once, from any goroutine; may be nil.
	Found func(Finding)

	SegmentRows int           // rows in memory that make a close; 1,048,576
	SegmentAge  time.Duration // age of the oldest row in memory that makes a close; 60 s
	MemoryBytes int64         // limit of the rows in memory, beyond which Write waits; 256 MiB. Half of it makes a close.
	HoursMax    int           // hours of one close that get files of their own; 64. The rest share one, split later.

	// RowGroupRows is the rows of a row group: 65,536. Measured with DuckDB over a day of 38 million rows of 1,000 devices in 24
	// files, on an idle machine: one device's day 30 ms for its 38,400 rows, 13 ms as an aggregate, its hour 4 ms; with 32,768
	// about twice that, since the footers grow, with 131,072 and small hours as well, since more is read in vain. Bloom
	// filters and smaller pages gain nothing.
	RowGroupRows int
	MergeRows    int64         // rows at which a file is not merged any more; 8,388,608
	MergeBytes   int64         // bytes at which a file is not merged any more; 256 MiB
	MergeDelay   time.Duration // how long after its end an hour settles and is merged into few files; 5 min
	MergeRest    float64       // seconds of rest a second of merging; 1. Negative means none.

	Retention     time.Duration // files whose newest event is older are removed; 0 keeps everything
	Grace         time.Duration // how long a replaced file stays after its last reader left; 30 s. Negative means none.
	MaintainEvery time.Duration // between two passes of merging, retention and disk watching; 10 s. Negative means never by itself.

	DiskWarn     float64 // free share of the disk below which Health warns; 0.15
	DiskCritical float64 // and below which it is critical; 0.05

	FS      FS                                               // writes; the operating system's
	Free    func(dir string) (free, total uint64, err error) // bytes of the disk under dir; the operating system's
	Health  func(Health)                                     // called when the health changes, from one goroutine; may be nil
	Metrics *Metrics                                         // nil counts nothing
	Log     *slog.Logger                                     // slog.DiscardHandler
	Now     func() time.Time                                 // required
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("history: Dir: empty, want the folder of the archive")
	}
	if c.Now == nil {
		return c, errors.New("history: Now: nil, want a clock")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("history: Dir: %w", err)
	}
	c.Dir = dir
	c.Manifest = cmp.Or(c.Manifest, filepath.Join(dir, "manifest.json"))
	c.Copy = cmp.Or(c.Copy, filepath.Join(dir, ".manifest.copy"))
	if c.Found == nil {
		c.Found = func(Finding) {}
	}
	c.SegmentRows = cmp.Or(c.SegmentRows, 1<<20)
	c.SegmentAge = cmp.Or(c.SegmentAge, time.Minute)
	c.MemoryBytes = cmp.Or(c.MemoryBytes, 256<<20)
	c.HoursMax = cmp.Or(c.HoursMax, 64)
	c.RowGroupRows = cmp.Or(c.RowGroupRows, 65536)
	c.MergeRows = cmp.Or(c.MergeRows, 8<<20)
	c.MergeBytes = cmp.Or(c.MergeBytes, 256<<20)
	c.MergeDelay = cmp.Or(c.MergeDelay, 5*time.Minute)
	c.MergeRest = cmp.Or(c.MergeRest, 1)
	c.Grace = cmp.Or(c.Grace, 30*time.Second)
	c.MaintainEvery = cmp.Or(c.MaintainEvery, 10*time.Second)
	c.DiskWarn = cmp.Or(c.DiskWarn, 0.15)
	c.DiskCritical = cmp.Or(c.DiskCritical, 0.05)
	if c.FS == nil {
		c.FS = OS{}
	}
	if c.Free == nil {
		c.Free = diskFree
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
