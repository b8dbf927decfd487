package nats

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// storeFault begins what the server says when it could not write a message. There is no other sign: who sent the message gets no answer.
const storeFault = "JetStream failed to store a msg"

// serverLog passes on what the server logs. Its notices are details of starting and stopping, so they are at level debug.
type serverLog struct {
	log *slog.Logger
	// unwritten has room for one: the server could not write, and the stream concerned takes nothing any more.
	unwritten chan struct{}

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
func (s *serverLog) Errorf(format string, v ...any) {
	line := s.keep(&s.last, format, v)
	s.log.Error(line)
	if strings.HasPrefix(line, storeFault) {
		select {
		case s.unwritten <- struct{}{}:
		default:
		}
	}
}

// Fatalf implements server.Logger. It does not end the process: Embedded returns it as an error.
func (s *serverLog) Fatalf(format string, v ...any) { s.log.Error(s.keep(&s.lastFatal, format, v)) }

// begin forgets what an earlier server said.
func (s *serverLog) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.lastFatal = "", ""
	select {
	case <-s.unwritten:
	default:
	}
}

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
