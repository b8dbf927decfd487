package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	probeFile  = "probe"
	probeBytes = 4 << 20 // room for what was under way when the disk was full
	mendEvery  = time.Second
	mendMax    = 30 * time.Second
)

// reopen starts the server again after it could not write. A stream of which one write failed, for want of room or by a fault of the
// disk, refuses every later one until its files are opened again; who appends to it would wait for ever, though there is room
// long since. What was acknowledged is on disk, and what was not is sent again.
func (s *Server) reopen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.bridge.unwritten:
		}
		s.cfg.Log.Error("the log could not be written: it is started again as soon as its disk takes writes", "dir", s.cfg.Dir, "error", s.bridge.lastFault())
		again := backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(0), backoff.WithInitialInterval(mendEvery), backoff.WithMaxInterval(mendMax))
		for err := s.probe(); ; err = s.probe() {
			if err == nil {
				err = s.again(ctx)
			}
			if err == nil {
				s.cfg.Log.Info("the log was started again", "dir", s.cfg.Dir)
				break
			}
			wait := again.NextBackOff()
			s.cfg.Log.Warn("the log cannot be written yet", "dir", s.cfg.Dir, "error", err, "in", wait.Round(time.Millisecond))
			if !pause(ctx, wait) {
				return
			}
		}
	}
}

// probe reports whether the disk takes writes.
func (s *Server) probe() (err error) {
	path := filepath.Join(s.cfg.Dir, probeFile)
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeBytes))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
}

// again ends the server and starts another one, on the same port.
func (s *Server) again(ctx context.Context) error {
	srv := s.srv.Load()
	if at, ok := srv.Addr().(*net.TCPAddr); ok && s.cfg.Addr != "" {
		host, _, err := net.SplitHostPort(s.cfg.Addr)
		if err != nil {
			return err
		}
		s.cfg.Addr = net.JoinHostPort(host, fmt.Sprint(at.Port))
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	return s.start(ctx)
}
