//go:build !linux || !(amd64 || arm64)

package powerloss

import "os"

// Recorder does nothing on this system.
type Recorder struct{}

// Start returns ErrUnsupported.
func Start([]string, []string, string, *os.File) (*Recorder, error) { return nil, ErrUnsupported }

// Process returns nil.
func (*Recorder) Process() *os.Process { return nil }

// Wait returns ErrUnsupported.
func (*Recorder) Wait() (*os.ProcessState, error) { return nil, ErrUnsupported }

// Lose returns ErrUnsupported.
func (*Recorder) Lose() ([]Loss, error) { return nil, ErrUnsupported }
