package parquet

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquetfile"
	"github.com/millrace/millrace/pkg/telemetry"
)

// catalog is the manifest in force, the snapshots that read older ones, and the files that wait for them to be removed.
// It is guarded by History.mu, except for commit, which takes commitMu for the writing.
type catalog struct {
	current *manifest
	paths   []string       // absolute, of current's files
	readers map[uint64]int // snapshots alive, by generation
	doomed  []doomed
}

// doomed is a file that the manifest names no longer.
type doomed struct {
	path       string // absolute
	generation uint64 // the first manifest without it
	since      time.Time
}

func absolute(dir string, files []FileInfo) []string {
	paths := make([]string, len(files))
	for i := range files {
		paths[i] = filepath.Join(dir, filepath.FromSlash(files[i].Path))
	}
	return paths
}

// commit replaces the manifest by what change makes of a copy; its error changes nothing. swap, if not nil, is called under mu in the moment in which
// readers see the new one. Files that the new one does not name any more are removed when their readers have left.
func (h *History) commit(change func(*manifest) error, swap func()) error {
	h.commitMu.Lock()
	defer h.commitMu.Unlock()
	old := h.catalog.current // only commit changes it
	next := old.clone()
	if err := change(next); err != nil {
		return err
	}
	next.Generation++
	if err := next.save(h.cfg.FS, h.cfg.Manifest); err != nil {
		return err
	}
	h.saveCopy(next)
	kept := make(map[string]bool, len(next.Files))
	for i := range next.Files {
		kept[next.Files[i].Path] = true
	}
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range old.Files {
		if !kept[old.Files[i].Path] {
			path := filepath.Join(h.cfg.Dir, filepath.FromSlash(old.Files[i].Path))
			h.catalog.doomed = append(h.catalog.doomed, doomed{path: path, generation: next.Generation, since: now})
		}
	}
	h.catalog.current, h.catalog.paths = next, absolute(h.cfg.Dir, next.Files)
	if swap != nil {
		swap()
	}
	h.cfg.Metrics.catalog(next)
	h.rows.Announce()
	return nil
}

// removeDoomed deletes the files that no snapshot can see and whose grace is over.
func (h *History) removeDoomed(now time.Time) error {
	if !h.copyAgrees() {
		return nil // what it names must stay
	}
	h.mu.Lock()
	oldest := h.catalog.current.Generation
	for g := range h.catalog.readers {
		oldest = min(oldest, g)
	}
	var free []doomed
	h.catalog.doomed = slices.DeleteFunc(h.catalog.doomed, func(d doomed) bool {
		ready := d.generation <= oldest && now.Sub(d.since) >= max(h.cfg.Grace, 0)
		if ready {
			free = append(free, d)
		}
		return ready
	})
	h.mu.Unlock()
	for i, d := range free {
		if err := h.cfg.FS.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.mu.Lock()
			h.catalog.doomed = append(h.catalog.doomed, free[i:]...)
			h.mu.Unlock()
			return fmt.Errorf("remove %s, which was replaced: %w", d.path, err)
		}
		hour := filepath.Dir(d.path)
		if h.cfg.FS.Remove(hour) == nil { // only where it is empty
			_ = h.cfg.FS.Remove(filepath.Dir(hour))
		}
	}
	return nil
}

// Filter picks rows. Every zero field picks all.
type Filter struct {
	Tenant, DeviceID string         // DeviceID needs Tenant
	From, To         telemetry.Time // event time, from inclusive, to exclusive
}

// May reports whether a file can hold rows that the filter picks.
func (f Filter) May(i *FileInfo) bool {
	if f.From != 0 && i.MaxEvent < f.From || f.To != 0 && i.MinEvent >= f.To {
		return false
	}
	if f.Tenant == "" {
		return true
	}
	if f.DeviceID == "" {
		return i.First.Tenant <= f.Tenant && f.Tenant <= i.Last.Tenant
	}
	d := Device{Tenant: f.Tenant, ID: f.DeviceID}
	return i.First.Compare(d) <= 0 && d.Compare(i.Last) <= 0
}

// Snapshot is history as of one moment. It implements store.HistorySnapshot.
type Snapshot struct {
	history *History
	catalog *manifest
	paths   []string
	views   []parquetfile.View
	pieces  func() []parquetfile.Piece
	rows    int
	once    sync.Once
}

var _ store.HistorySnapshot = (*Snapshot)(nil)

// Snapshot implements store.History. It takes microseconds; it never waits for the disk.
func (h *History) Snapshot() (store.HistorySnapshot, error) {
	s, err := h.Take()
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Take is Snapshot with the methods of its own.
func (h *History) Take() (*Snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	s := &Snapshot{history: h, catalog: h.catalog.current, paths: h.catalog.paths}
	h.rows.Segments(func(g *parquetfile.Segment) {
		s.views = append(s.views, g.View())
		s.rows += g.Rows()
	})
	s.pieces = sync.OnceValue(s.cut)
	h.catalog.readers[s.catalog.Generation]++
	return s, nil
}

// Files implements store.HistorySnapshot.
func (s *Snapshot) Files() []string { return s.paths }

// FilesOf returns the paths of the files that can hold rows which f picks.
func (s *Snapshot) FilesOf(f Filter) []string {
	var paths []string
	for i := range s.catalog.Files {
		if f.May(&s.catalog.Files[i]) {
			paths = append(paths, s.paths[i])
		}
	}
	return paths
}

// Info returns what is known of the files, beside Files. The caller does not change it.
func (s *Snapshot) Info() []FileInfo { return s.catalog.Files }

// Rows implements store.HistorySnapshot. Each run is made for the call, in memory of its own; its texts are shared.
func (s *Snapshot) Rows(yield func(run []store.MessageRow) bool) {
	for i := range s.Pieces() {
		if !yield(s.Piece(i)) {
			return
		}
	}
}

// Pieces returns how many runs Rows yields, and Piece the one with that number: for who reads on and off, and has not the memory for
// all of them at once (a row is 80 bytes here and 400 there).
func (s *Snapshot) Pieces() int { return len(s.pieces()) }

// Piece returns a run of rows as Rows does, made for the call. Safe for concurrent use.
func (s *Snapshot) Piece(i int) []store.MessageRow {
	p := s.pieces()[i]
	return s.views[p.View].Messages(p)
}

func (s *Snapshot) cut() []parquetfile.Piece {
	var all []parquetfile.Piece
	for i := range s.views {
		all = s.views[i].Pieces(all, i)
	}
	return all
}

// RowCount implements store.HistorySnapshot.
func (s *Snapshot) RowCount() int { return s.rows }

// Release implements store.HistorySnapshot.
func (s *Snapshot) Release() {
	s.once.Do(func() {
		h := s.history
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.catalog.readers[s.catalog.Generation]--; h.catalog.readers[s.catalog.Generation] == 0 {
			delete(h.catalog.readers, s.catalog.Generation)
		}
	})
}
