package parquet

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	scrubBytes = 64 << 20       // of one pass of Maintain: at its pace of every 10 s half a terabyte a day
	scrubEvery = 24 * time.Hour // for each file

	doubtAllEvery = 30 * time.Second
)

// scrubbed is when each file was last read as a whole and found to be what was written, by its path. Maintain's alone.
type scrubbed map[string]time.Time

// scrub reads some of the files that were not read for long and sets aside those that are not what was written.
func (h *History) scrub(ctx context.Context) error {
	h.mu.Lock()
	files := h.catalog.current.Files
	h.mu.Unlock()
	now := h.cfg.Now()
	fresh := make(scrubbed, len(files))
	left := int64(scrubBytes)
	var fault error // the first of a file that could not be looked at; it is tried again, and holds up no other
	for i := range files {
		f := &files[i]
		at, known := h.checked[f.Path]
		if !known && now.Sub(f.Closed.Std()) < scrubEvery && h.checked != nil {
			at = f.Closed.Std() // it was written by this process
		}
		if now.Sub(at) < scrubEvery || left <= 0 || ctx.Err() != nil {
			fresh[f.Path] = at
			continue
		}
		path := filepath.Join(h.cfg.Dir, filepath.FromSlash(f.Path))
		err := checkSum(path, f)
		if d := (*damagedError)(nil); errors.As(err, &d) {
			err = h.setAside(f.Path, d.err.Error()) // nothing to do where it was merged or has expired meanwhile
		}
		if err != nil {
			if fault == nil {
				fault = err
			}
			fresh[f.Path] = at
			continue
		}
		left -= f.Bytes
		fresh[f.Path] = now
	}
	h.checked = fresh
	return fault
}

// Doubt looks at those files of the snapshot that an error names, which a query over them gave, or at all of them where it speaks of Parquet
// and names none, and sets aside those that are not what was written. It reports whether there were any: the query may then be made again
// over another snapshot.
func (s *Snapshot) Doubt(reason error) (setAside bool, err error) {
	text := reason.Error()
	named := slices.ContainsFunc(s.paths, func(path string) bool { return strings.Contains(text, path) })
	if !named && !slices.ContainsFunc(decodingSigns(), func(sign string) bool { return strings.Contains(text, sign) }) {
		return false, nil
	}
	if !named && !s.history.mayDoubtAll() {
		return false, nil
	}
	for i, path := range s.paths {
		if named && !strings.Contains(text, path) {
			continue
		}
		err := checkSum(path, &s.catalog.Files[i])
		if err == nil {
			continue
		}
		if d := (*damagedError)(nil); !errors.As(err, &d) {
			return setAside, err
		}
		if err := s.history.setAside(s.catalog.Files[i].Path, err.Error()); err != nil {
			return setAside, err
		}
		setAside = true
	}
	return setAside, nil
}

// mayDoubtAll bounds what errors that name no file can cost: anybody who may query can cause one.
func (h *History) mayDoubtAll() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.cfg.Now()
	if now.Sub(h.doubted) < doubtAllEvery {
		return false
	}
	h.doubted = now
	return true
}

// decodingSigns are words of errors of who decodes Parquet and does not say which file.
func decodingSigns() []string {
	return []string{"arquet", "ZSTD", "ecompress", "TProtocol", "Thrift", "thrift", "Out of buffer", "dictionary", "page", "UTF", "Snappy", "RLE", "DELTA", "magic bytes", "orrupt", "bitpacked", "Dictionary", "Page"}
}
