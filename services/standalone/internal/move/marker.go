package move

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/services/standalone/internal/jsonfile"
)

// marker is a file beside the source. Positions of a move count rows of the source in a fixed order, so a move goes on only
// while the source is as it was when the move began.
type marker struct {
	Version  int               `json:"version"`
	Target   string            `json:"target"`
	Tables   map[string]string `json:"tables"`   // by name: number of rows, and a hash of how they lie
	Standing bool              `json:"standing"` // what is now was moved, and compared equal
}

const markerVersion = 1

// Begun reports whether the marker says that a move into the target of that name is under way.
func Begun(path, target string) (bool, error) {
	m, err := loadMarker(path)
	return err == nil && m != nil && m.Target == target, err
}

func loadMarker(path string) (*marker, error) {
	b, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no marker is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the marker of the move: %w", err)
	}
	m := &marker{}
	if err := json.Unmarshal(b, m); err != nil || m.Version != markerVersion {
		return nil, fmt.Errorf("read the marker of the move: %s: version %d, want %d: %w", path, m.Version, markerVersion, err)
	}
	return m, nil
}

// mark returns the marker of this move, made now where there is none. It refuses a source that has changed since.
func (r *runner) mark(parts []part) (*marker, error) {
	now := &marker{Version: markerVersion, Target: r.o.Name, Tables: map[string]string{}}
	for _, p := range parts {
		h := fnv.New64a()
		for _, c := range p.chunks {
			_, _ = fmt.Fprintf(h, "%s|%s|%d\n", c.label, filepath.Base(c.path), c.units) // it never fails
		}
		now.Tables[p.name] = fmt.Sprintf("%d %016x", p.units, h.Sum64())
	}
	before, err := loadMarker(r.o.Marker)
	if err != nil {
		return nil, err
	}
	if before == nil || before.Target != now.Target {
		return now, now.save(r.o.Marker)
	}
	for name, is := range now.Tables {
		if was, known := before.Tables[name]; known && was != is {
			return nil, fmt.Errorf("%s is not as it was when the move began (%s, was %s): the instance has run since. Empty the target's tables, remove %s, and begin anew",
				name, is, was, r.o.Marker)
		}
	}
	return before, nil
}

func (m *marker) save(path string) error {
	if err := jsonfile.Write(path, m); err != nil {
		return fmt.Errorf("write the marker of the move: %w", err)
	}
	return nil
}
