package nats

import (
	"fmt"
	"log/slog"
	"sync"
)

// serverLog passes on what the server logs. Its notices are details of starting and stopping, so they are at level debug.
type serverLog struct {
	log *slog.Logger

	mu        sync.Mutex
	last      string // warning or error
	lastFatal string
}

var _ interface {
	Noticef(string, ...any)
	Fatalf(string, ...any)
} = (*serverLog)(nil)

// Noticef implements server.Logger.
func (s *serverLog) Noticef(format string, v ...any) { s.log.Debug(fmt.Sprintf(format, v...)) }

// Debugf implements server.Logger.
func (s *serverLog) Debugf(format string, v ...any) { s.log.Debug(fmt.Sprintf(format, v...)) }

// Tracef implements server.Logger.
func (s *serverLog) Tracef(format string, v ...any) { s.log.Debug(fmt.Sprintf(format, v...)) }

// Warnf implements server.Logger.
func (s *serverLog) Warnf(format string, v ...any) { s.log.Warn(s.keep(&s.last, format, v)) }

// Errorf implements server.Logger.
func (s *serverLog) Errorf(format string, v ...any) { s.log.Error(s.keep(&s.last, format, v)) }

// Fatalf implements server.Logger. It does not end the process: Embedded returns it as an error.
func (s *serverLog) Fatalf(format string, v ...any) { s.log.Error(s.keep(&s.lastFatal, format, v)) }

func (s *serverLog) keep(where *string, format string, v []any) string {
	line := fmt.Sprintf(format, v...)
	s.mu.Lock()
	defer s.mu.Unlock()
	*where = line
	return line
}

func (s *serverLog) fatal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastFatal
}

func (s *serverLog) lastFault() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
