package duckdb

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/store"
)

// Config says where the database is and what it may use. Path is all that must be set.
type Config struct {
	// Path of the database file. Beside it DuckDB keeps <Path>.wal, and this package <Path>.checkpoints.
	Path string
	// MemoryLimit is what DuckDB may hold, in bytes; 0 means 2 GiB. What a query needs beyond it goes to TempDir, and beyond
	// TempLimit the query fails. Writers share it.
	MemoryLimit int64
	// TempLimit is how many bytes of TempDir queries may fill; 0 means 10 GiB.
	TempLimit int64
	// Threads is how many threads all queries and writes share, beside those that call; 0 means half the processors. More makes large queries quicker and small commits dearer: DuckDB spins while another of its threads works
	// (a commit of 100 rows took 2.1 ms of CPU with one thread and 4.9 ms with two, on two processors).
	Threads int
	// CheckpointBytes is the size of the write-ahead log at which it is moved into the file; 0 means 64 MiB. More means
	// fewer stalls and a longer recovery.
	CheckpointBytes int64
	// ArchiveDir holds the Parquet files of History, the only files that SQL can read; "" means none.
	ArchiveDir string
	// TempDir takes what does not fit in memory; "" means <Path>.tmp.
	TempDir string
	// History is what device_messages, archive and history show; nil shows them empty.
	History store.History

	// Queries is how many queries may run at once; 0 means 4. One more waits for QueryWait (0 means 5 s) and is then refused
	// with answer.ErrBusy.
	Queries   int
	QueryWait time.Duration

	Log *slog.Logger // nil logs nothing
	// Now times writes, so that those that take a second or more are logged; nil times nothing.
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	if c.Path == "" {
		return c, fmt.Errorf("open duckdb: no path")
	}
	if strings.ContainsAny(c.Path, "?") {
		return c, fmt.Errorf("open duckdb %s: a path with a question mark", c.Path)
	}
	var err error
	if c.Path, err = filepath.Abs(c.Path); err != nil {
		return c, fmt.Errorf("open duckdb %s: %w", c.Path, err)
	}
	if c.ArchiveDir != "" {
		if c.ArchiveDir, err = filepath.Abs(c.ArchiveDir); err != nil {
			return c, fmt.Errorf("open duckdb %s: archive: %w", c.Path, err)
		}
	}
	if c.TempDir == "" {
		c.TempDir = c.Path + ".tmp"
	}
	c.MemoryLimit = orDefault(c.MemoryLimit, 2<<30)
	c.TempLimit = orDefault(c.TempLimit, 10<<30)
	c.CheckpointBytes = orDefault(c.CheckpointBytes, 64<<20)
	c.Threads = orDefault(c.Threads, max(1, runtime.GOMAXPROCS(0)/2))
	c.Queries = orDefault(c.Queries, 4)
	c.QueryWait = orDefault(c.QueryWait, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// quote returns s as a SQL string literal.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
