package parquet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store/gather"
	"github.com/millrace/millrace/pkg/store/parquetfile"
	"github.com/millrace/millrace/pkg/telemetry"
)

const manifestVersion = 1

// manifest says which files count and how far they cover each partition. It is one JSON document in one line and, in a second
// line, its CRC-32C, and is only ever replaced as a whole.
type manifest struct {
	Version    int               `json:"version"`
	Generation uint64            `json:"generation"` // rises by one with each manifest
	Next       uint64            `json:"next"`       // number of the next file; never used twice among the files named
	Progress   []gather.Coverage `json:"progress"`
	Files      []FileInfo        `json:"files"`
	Damaged    []DamagedRecord   `json:"damaged,omitempty"`
}

// FileInfo is what the manifest knows of one file. Its columns are store.HistoryColumns, its rows sorted by tenant, device,
// channel, event time and origin.
type FileInfo struct {
	Path     string         `json:"path"` // relative to the archive, with slashes
	Rows     int64          `json:"rows"`
	Bytes    int64          `json:"bytes"`
	CRC      uint32         `json:"crc32c"`    // of the whole file
	MinEvent telemetry.Time `json:"min_event"` // event times, both inclusive
	MaxEvent telemetry.Time `json:"max_event"`
	First    Device         `json:"first"` // devices, both inclusive, ordered by tenant, then id
	Last     Device         `json:"last"`
	Closed   telemetry.Time `json:"closed"` // when it was written
	// Spread is set on a file whose rows are of many hours; it lies in the folder of its oldest.
	Spread bool `json:"spread,omitempty"`
}

// Device is a device's name in the order of files.
type Device = parquetfile.Device

// DamagedRecord is a file that was named and could not be read.
type DamagedRecord struct {
	Path   string         `json:"path"` // relative to the archive, with slashes
	Rows   int64          `json:"rows"`
	Reason string         `json:"reason"`
	Found  telemetry.Time `json:"found"`
	Aside  string         `json:"aside,omitempty"` // where the file is now
	// What is known of its rows, as of FileInfo; zero in what an earlier release has noted.
	MinEvent telemetry.Time `json:"min_event,omitempty"`
	MaxEvent telemetry.Time `json:"max_event,omitempty"`
	First    Device         `json:"first,omitzero"`
	Last     Device         `json:"last,omitzero"`
	// Restored is how many of its rows were made again, and Searched says that whoever could make them again has looked.
	Restored int64 `json:"restored,omitempty"`
	Searched bool  `json:"searched,omitempty"`
}

// String says it in a line.
func (d DamagedRecord) String() string {
	text := fmt.Sprintf("%s (%d rows) cannot be read: %s", d.Path, d.Rows, d.Reason)
	switch {
	case d.Restored >= d.Rows:
		return text + "; all its rows were made again"
	case !d.Searched:
		return text + "; its rows are missing until they are made again"
	}
	return text + fmt.Sprintf("; %d rows were made again, %d are missing: events from %s to %s of devices from %s to %s", d.Restored, d.Rows-d.Restored,
		d.MinEvent.Std().UTC().Format(time.RFC3339), d.MaxEvent.Std().UTC().Format(time.RFC3339), d.First.ID, d.Last.ID)
}

// Finding is something that was found damaged.
type Finding struct {
	Manifest bool   // it is about a manifest, else about a file of rows
	Path     string // absolute
	What     string // what is wrong, and what became of it
	Lost     string // what cannot be had again; "" where nothing is, or it is not known yet
	Aside    string // where the damaged file is now; "" where it is gone
}

// clone returns a copy whose lists may be changed.
func (m *manifest) clone() *manifest {
	c := *m
	c.Progress, c.Files, c.Damaged = slices.Clone(m.Progress), slices.Clone(m.Files), slices.Clone(m.Damaged)
	return &c
}

// cover sets how far a source is covered.
func (m *manifest) cover(from gather.Source, p bus.Progress) {
	c := gather.NewCoverage(from, p)
	if i := slices.IndexFunc(m.Progress, func(e gather.Coverage) bool { return e.Source() == from }); i >= 0 {
		m.Progress[i] = c
		return
	}
	m.Progress = append(m.Progress, c)
}

// covered returns what cover set, by source.
func (m *manifest) covered() (map[gather.Source]bus.Progress, error) {
	all := make(map[gather.Source]bus.Progress, len(m.Progress))
	for i := range m.Progress {
		p, err := m.Progress[i].Progress()
		if err != nil {
			return nil, err
		}
		all[m.Progress[i].Source()] = p
	}
	return all, nil
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// save replaces the manifest at path. After errUncertain nobody knows which of the two is there, so the next save decides.
func (m *manifest) save(disk FS, path string) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	body = fmt.Appendf(append(body, '\n'), "crc32c %08x\n", crc32.Checksum(body, castagnoli()))
	if _, _, err := writeFile(disk, path, func(w io.Writer) error { _, err := w.Write(body); return err }); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := disk.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("manifest: make its name durable: %w: %w", errUncertain, err)
	}
	return nil
}

// loadManifest reads the manifest at path; nil where there is none.
func loadManifest(path string) (*manifest, error) {
	b, err := os.ReadFile(path) //nolint:gosec // a path of the configuration
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no manifest is the first start
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m, err := parseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	return m, nil
}

func parseManifest(b []byte) (*manifest, error) {
	body, sum, found := bytes.Cut(b, []byte{'\n'})
	if !found {
		return nil, errors.New("cut off: no line of its checksum")
	}
	if want := fmt.Sprintf("crc32c %08x\n", crc32.Checksum(body, castagnoli())); string(sum) != want {
		return nil, fmt.Errorf("damaged: its checksum line is %q, want %q", sum, want)
	}
	m := new(manifest)
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if m.Version != manifestVersion {
		return nil, fmt.Errorf("version %d, want %d: written by a newer program", m.Version, manifestVersion)
	}
	for i := range m.Files {
		if p := m.Files[i].Path; !filepath.IsLocal(filepath.FromSlash(p)) {
			return nil, fmt.Errorf("file %q: leaves the archive", p)
		}
	}
	return m, nil
}

// Named returns the files that the manifest at path names, and those that it notes as damaged, for a process that reads beside the one that
// writes. Any of the files may be merged into another, and then removed after Config.Grace, so the caller keeps them in place, as by a hard
// link, or begins again where one is gone. No manifest is no files.
func Named(path string) ([]FileInfo, []DamagedRecord, error) {
	m, err := loadManifest(path)
	if err != nil || m == nil {
		return nil, nil, err
	}
	return m.Files, m.Damaged, nil
}
