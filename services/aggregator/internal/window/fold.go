package window

import (
	"fmt"

	"github.com/millrace/millrace/pkg/store"
)

// Folder merges deltas into rows. One goroutine at a time.
type Folder struct {
	memory *memory
	base   summary
	delta  summary
}

// NewFolder returns a Folder.
func NewFolder() (*Folder, error) {
	m, err := newMemory()
	if err != nil {
		return nil, err
	}
	return &Folder{memory: m}, nil
}

// IsDelta reports whether r is a part of a window that is to be merged into what is stored.
func IsDelta(r *store.AggregateRow) bool { return r.Revision == 0 }

// Merge adds delta to row, both of the same window: its numbers and its State, into new memory. Its Revision is left alone.
// On an error, which wraps ErrState, row is what it was.
func (f *Folder) Merge(row, delta *store.AggregateRow) error {
	m := f.memory
	m.reset(&f.base)
	m.reset(&f.delta)
	if err := m.readState(&f.base, row.State); err != nil {
		return fmt.Errorf("read the state of a window: %w", err)
	}
	if err := m.readState(&f.delta, delta.State); err != nil {
		return fmt.Errorf("read the state of a delta: %w", err)
	}
	later := row.LastTime < delta.LastTime
	m.merge(&f.base, &f.delta)
	m.fill(&row.Aggregate, &f.base)
	row.State = m.appendState(nil, &f.base)
	if delta.DeviceType != "" && (later || row.DeviceType == "") {
		row.DeviceType = delta.DeviceType
	}
	return nil
}
