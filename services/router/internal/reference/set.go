package reference

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// Set is a table that follows its file. Current is safe for concurrent use; Reload belongs to one goroutine.
type Set struct {
	source  Source
	current atomic.Pointer[Table]
	seen    stamp
}

// stamp is what tells one version of a file from the next.
type stamp struct {
	modified time.Time
	bytes    int64
}

// Open reads the table for the first time. Where that fails there is no set.
func Open(s Source) (*Set, error) {
	set := &Set{source: s}
	if _, err := set.Reload(); err != nil {
		return nil, err
	}
	return set, nil
}

// Name returns the source's name.
func (s *Set) Name() string { return s.source.Name }

// Current returns the newest table that could be read.
func (s *Set) Current() *Table { return s.current.Load() }

// Reload reads the file again if its time or size has changed since the last call, and reports whether the table is new. An
// error is returned once for each version of the file; until it is right Current stays what it was. A file that is gone is an
// error each time.
func (s *Set) Reload() (changed bool, err error) {
	// Taken before the reading, so that what is written meanwhile is seen the next time.
	found, err := os.Stat(s.source.File)
	if err != nil {
		s.seen = stamp{}
		return false, fmt.Errorf("look at reference data %s: %w", s.source.Name, err)
	}
	at := stamp{found.ModTime(), found.Size()}
	if at == s.seen {
		return false, nil
	}
	s.seen = at
	t, err := Load(s.source)
	if err != nil {
		return false, err
	}
	s.current.Store(t)
	return true, nil
}
