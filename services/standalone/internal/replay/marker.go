package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/standalone/internal/jsonfile"
)

const markerVersion = 1

// marker says what a new store is made of, beside that store: a replay goes on only with what it began with.
type marker struct {
	Version  int       `json:"version"`
	Worker   string    `json:"worker"`
	Topics   []string  `json:"topics"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"` // of the newest run
	Complete bool      `json:"complete"`
}

func loadMarker(path string) (*marker, error) {
	b, err := os.ReadFile(path) //nolint:gosec // beside the new store
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no marker is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the marker of the replay: %w", err)
	}
	m := &marker{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("read the marker of the replay: %s: %w", path, err)
	}
	if m.Version != markerVersion {
		return nil, fmt.Errorf("read the marker of the replay: %s: version %d, want %d", path, m.Version, markerVersion)
	}
	return m, nil
}

func (m *marker) save(path string) error {
	err := os.MkdirAll(filepath.Dir(path), 0o750)
	if err == nil {
		err = jsonfile.Write(path, m)
	}
	if err != nil {
		return fmt.Errorf("write the marker of the replay: %w", err)
	}
	return nil
}

// mark notes the beginning of a run, and refuses a store that was begun with something else. begun says that there was a run before.
func mark(path string, want marker) (m *marker, begun bool, err error) {
	have, err := loadMarker(path)
	if err != nil {
		return nil, false, err
	}
	if have != nil {
		now := telemetry.At(want.From)
		switch {
		case have.Worker != want.Worker || !slices.Equal(have.Topics, want.Topics):
			return nil, true, fmt.Errorf("%s: it was begun by %s from %v, now it would be %s from %v: want another place", path,
				have.Worker, have.Topics, want.Worker, want.Topics)
		case telemetry.At(have.From) != now:
			return nil, true, fmt.Errorf("%s: it was begun with --from %s, now it would be %s: go on with the same, or into another place", path,
				have.From.Format(time.RFC3339Nano), want.From.Format(time.RFC3339Nano))
		case want.To.Before(have.To):
			return nil, true, fmt.Errorf("%s: it was made up to %s already, now it would be %s: want the same or later", path,
				have.To.Format(time.RFC3339Nano), want.To.Format(time.RFC3339Nano))
		}
	}
	return &want, have != nil, want.save(path)
}
