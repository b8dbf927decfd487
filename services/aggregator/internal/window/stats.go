package window

import "sync/atomic"

// Stats counts what the tasks of a process did. Safe for concurrent use; the zero Stats is ready.
type Stats struct {
	late, tooLate, beyondDevices, beyondChannels, beyondWindows atomic.Uint64
}

// Late returns how often a record came after its window had closed and became a delta.
func (s *Stats) Late() uint64 { return s.late.Load() }

// TooLate returns how often a record came too late for its window: only history has it.
func (s *Stats) TooLate() uint64 { return s.tooLate.Load() }

// BeyondDevices returns how many records became deltas since there was no room for their device.
func (s *Stats) BeyondDevices() uint64 { return s.beyondDevices.Load() }

// BeyondChannels is the same of channels.
func (s *Stats) BeyondChannels() uint64 { return s.beyondChannels.Load() }

// BeyondWindows returns how often a record became a delta since no more windows could be opened.
func (s *Stats) BeyondWindows() uint64 { return s.beyondWindows.Load() }
