// Package damage remembers what of the data directory was found damaged, until somebody has seen to it: in a file that people can read,
// in the log, as a metric and as a warning of the status.
package damage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/services/standalone/internal/jsonfile"
)

const (
	fileName  = "damage.json"
	asideName = "set-aside"
	noteName  = "NOTE.txt"

	entriesMax = 200 // the oldest are forgotten
)

// The kinds of what can be damaged: the values of the metric's label.
const (
	Log        = "log"        // the embedded log
	Database   = "database"   // millrace.duckdb
	Checkpoint = "checkpoint" // state of the aggregator or of alerting
	History    = "history"    // a file of the archive
	Manifest   = "manifest"   // the list of those files
	Note       = "note"       // a file of ours that only tells
)

// Entry is one thing that was found damaged.
type Entry struct {
	Kind  string    `json:"kind"`
	Path  string    `json:"path"`
	Found time.Time `json:"found"`
	What  string    `json:"what"`            // what is wrong, and what became of it
	Lost  string    `json:"lost,omitempty"`  // what could not be made again; "" where nothing is missing
	Aside string    `json:"aside,omitempty"` // where the damaged file is now
}

// String says it in a line.
func (e Entry) String() string {
	text := e.Kind + " " + e.Path + ": " + e.What
	if e.Lost != "" {
		text += ". Missing: " + e.Lost
	}
	return text
}

// Book holds the entries of a data directory. Safe for concurrent use; a nil Book takes notes and keeps none.
type Book struct {
	data  string
	log   *slog.Logger
	now   func() time.Time
	found *prometheus.CounterVec

	mu      sync.Mutex
	entries []Entry
	stamp   string // name of the folder of what this process sets aside
}

// Open reads what is remembered in the directory data. A file that cannot be read is set aside itself.
func Open(data string, reg prometheus.Registerer, log *slog.Logger, now func() time.Time) (*Book, error) {
	b := &Book{data: data, log: log, now: now, stamp: now().UTC().Format("2006-01-02T15-04-05.000")}
	b.found = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "millrace", Name: "corrupt_files_total", Help: "Files of the data directory that were found damaged since the start.",
	}, []string{"kind"})
	if reg != nil {
		if err := reg.Register(b.found); err != nil {
			return nil, fmt.Errorf("metrics of damage: %w", err)
		}
	}
	for _, kind := range []string{Log, Database, Checkpoint, History, Manifest, Note} {
		b.found.WithLabelValues(kind)
	}
	path := filepath.Join(data, fileName)
	text, err := os.ReadFile(path) //nolint:gosec // a directory of the configuration
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &b.entries)
	}
	if err == nil {
		return b, nil
	}
	b.entries = nil
	if moveErr := b.SetAside(path); moveErr != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), moveErr)
	}
	b.Take(Entry{Kind: Note, Path: path, What: "it cannot be read (" + err.Error() + ") and was set aside", Lost: "what was noted of earlier damage", Aside: b.Aside()})
	return b, nil
}

// Aside returns the folder for what this process sets aside. It is made when something is.
func (b *Book) Aside() string { return filepath.Join(b.data, asideName, b.stamp) }

// SetAside moves a file or folder into Aside. What is not there is nothing to do.
func (b *Book) SetAside(path string) error {
	if err := os.MkdirAll(b.Aside(), 0o750); err != nil {
		return fmt.Errorf("set aside %s: %w", path, err)
	}
	err := os.Rename(path, filepath.Join(b.Aside(), filepath.Base(path)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set aside %s: %w", path, err)
	}
	return nil
}

// Take logs, counts and remembers an entry. Found may be zero: it is now.
func (b *Book) Take(e Entry) {
	if b == nil {
		return
	}
	if e.Found.IsZero() {
		e.Found = b.now().UTC()
	}
	b.log.Error("found damaged", "kind", e.Kind, "path", e.Path, "what", e.What, "lost", e.Lost, "aside", e.Aside)
	b.found.WithLabelValues(e.Kind).Inc()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, e)
	b.entries = slices.Clone(b.entries[max(0, len(b.entries)-entriesMax):])
	if err := b.save(e); err != nil {
		b.log.Error("what was found damaged is not remembered beyond this run", "error", err)
	}
}

// Entries returns what is remembered, oldest first.
func (b *Book) Entries() []Entry {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.entries)
}

// save writes the file, and a note beside what was set aside.
func (b *Book) save(newest Entry) error {
	if err := jsonfile.Write(filepath.Join(b.data, fileName), b.entries); err != nil {
		return err
	}
	if newest.Aside == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(newest.Aside, noteName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there was nothing to set aside
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s  %s\n", newest.Found.Format(time.RFC3339), newest)
	return errors.Join(err, f.Close())
}
