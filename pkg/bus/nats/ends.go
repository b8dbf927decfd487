package nats

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/atomicfile"
)

const rememberEvery = time.Second // in which what was appended is remembered, at most

// knownStream is what the file of ends says of one stream: sequences, inclusive.
type knownStream struct {
	First uint64   `json:"first"` // what is before was trimmed on purpose
	Last  uint64   `json:"last"`  // of what was acknowledged
	Lost  []seqRun `json:"lost,omitempty"`
}

// seqRun is the sequences from the first through the second.
type seqRun [2]uint64

// endsFile remembers what of the log was acknowledged, outside of the server's own files. One line of JSON, and its CRC-32C in a second.
type endsFile struct {
	path  string
	fault error // the file was there and could not be read

	mu      sync.Mutex
	streams map[string]knownStream
}

// openEnds reads the file. One that is missing or damaged remembers nothing; the other witnesses of Mend remain.
func openEnds(path string, log *slog.Logger) *endsFile {
	e := &endsFile{path: path, streams: map[string]knownStream{}}
	b, err := os.ReadFile(path) //nolint:gosec // a path of the configuration
	if errors.Is(err, fs.ErrNotExist) {
		return e
	}
	if err == nil {
		body, sum, _ := bytes.Cut(b, []byte{'\n'})
		if string(sum) != sumLine(body) {
			err = errors.New("its checksum is wrong")
		} else {
			err = json.Unmarshal(body, &e.streams)
		}
	}
	if err != nil {
		e.fault = fmt.Errorf("read %s, which remembers the ends of the log: %w", path, err)
		log.Error("the ends of the log are not remembered; what the stores know of them must do", "path", path, "error", err)
		e.streams = map[string]knownStream{}
	}
	return e
}

func sumLine(body []byte) string {
	return fmt.Sprintf("crc32c %08x\n", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

func (e *endsFile) known(stream string) (knownStream, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k, ok := e.streams[stream]
	return k, ok
}

// trimmed says that what is before first is about to go, or is gone.
func (e *endsFile) trimmed(stream string, first uint64) error {
	return e.change(func(all map[string]knownStream) bool {
		k, ok := all[stream]
		if !ok || k.First >= first {
			return false
		}
		k.First = first
		k.Lost = slices.DeleteFunc(slices.Clone(k.Lost), func(r seqRun) bool { return r[1] < first })
		all[stream] = k
		return true
	})
}

// change applies f and writes the file where f says that something is new.
func (e *endsFile) change(f func(all map[string]knownStream) bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !f(e.streams) {
		return nil
	}
	body, err := json.Marshal(e.streams)
	if err != nil {
		return fmt.Errorf("remember the ends of the log: %w", err)
	}
	if err := atomicfile.Write(e.path, append(append(body, '\n'), sumLine(body)...)); err != nil {
		return fmt.Errorf("remember the ends of the log: %w", err)
	}
	return nil
}

// reached notes that everything through seq is on disk.
func (p *partition) reached(seq uint64) {
	for {
		have := p.acked.Load()
		if seq <= have || p.acked.CompareAndSwap(have, seq) {
			return
		}
	}
}

// rememberNowAndThen keeps the file of ends up to date until the log is closed, and once more then.
func (l *Log) rememberNowAndThen() {
	for pause(l.life, rememberEvery) {
		if err := l.rememberEnds(); err != nil {
			l.cfg.Log.Warn("how far the log reaches is not remembered for now", "error", err)
		}
	}
	if err := l.rememberEnds(); err != nil {
		l.cfg.Log.Warn("how far the log reaches is not remembered", "error", err)
	}
}

// rememberEnds writes what was acknowledged since. A stream that Mend has not yet looked at stays as it is remembered.
func (l *Log) rememberEnds() error {
	return l.ends.change(func(all map[string]knownStream) bool {
		changed := false
		for _, p := range l.parts {
			k, ok := all[p.stream]
			if last := p.acked.Load(); ok && last > k.Last {
				k.Last, changed = last, true
				all[p.stream] = k
			}
		}
		return changed
	})
}
