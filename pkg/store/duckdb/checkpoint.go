package duckdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pkg/store"
)

// checkpointInline is the size up to which a checkpoint is kept in its table. A larger one is a file beside the database, on disk before
// the transaction that names it: DuckDB takes 0.3 to 0.8 s for a blob of 8 MB, a file and its sync 20 ms.
const checkpointInline = 32 << 10

type taskKey struct{ worker, task string }

type savedCheckpoint struct {
	state []byte // where file is ""
	file  string // base name
	crc   uint32
}

func checkpointDir(path string) string { return path + ".checkpoints" }

func (l *lane) loadCheckpoints(ctx context.Context) error {
	query := `SELECT worker, task, state, coalesce(file, ''), crc FROM internal.checkpoints_` + l.name //nolint:gosec // the lane's name is a constant of ours
	rows, err := l.conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	l.saved = make(map[taskKey]savedCheckpoint)
	for rows.Next() {
		var key taskKey
		var s savedCheckpoint
		if err := rows.Scan(&key.worker, &key.task, &s.state, &s.file, &s.crc); err != nil {
			return err
		}
		l.saved[key] = s
		number := s.file[strings.LastIndexByte(s.file, '-')+1:]
		if n, err := strconv.ParseUint(number, 10, 64); err == nil {
			l.fileNo = max(l.fileNo, n)
		}
	}
	return rows.Err()
}

// Checkpoint implements store.Checkpoints.
func (l *lane) Checkpoint(ctx context.Context, worker, task string) (state []byte, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(ctx); err != nil {
		return nil, false, fmt.Errorf("checkpoint of %s %s: %w", worker, task, err)
	}
	s, ok := l.saved[taskKey{worker, task}]
	if !ok {
		return nil, false, nil
	}
	if state, err = l.readCheckpoint(s); err != nil {
		return nil, false, fmt.Errorf("checkpoint of %s %s: %w", worker, task, err)
	}
	return state, true, nil
}

func (l *lane) readCheckpoint(s savedCheckpoint) (state []byte, err error) {
	state = slices.Clone(s.state)
	if s.file != "" {
		if state, err = os.ReadFile(filepath.Join(checkpointDir(l.db.cfg.Path), s.file)); err != nil {
			return nil, err
		}
	}
	if got := crc32.ChecksumIEEE(state); got != s.crc {
		return nil, fmt.Errorf("%s: checksum %08x, want %08x: damaged", s.file, got, s.crc)
	}
	return state, nil
}

// damagedCheckpoints returns the checkpoints that are not what was written: their file names or, of those that lie in their table, worker and
// task.
func (l *lane) damagedCheckpoints() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var bad []string
	for of, s := range l.saved {
		if _, err := l.readCheckpoint(s); err != nil {
			bad = append(bad, cmp.Or(s.file, of.worker+" "+of.task))
		}
	}
	slices.Sort(bad)
	return bad
}

// saveCheckpoint writes commit's checkpoint, and returns it, or nil where there is none.
func (l *lane) saveCheckpoint(tx *tx, commit store.Commit) (*savedCheckpoint, error) {
	if commit.Checkpoint == nil {
		return nil, nil //nolint:nilnil // no checkpoint is no error
	}
	s := &savedCheckpoint{crc: crc32.ChecksumIEEE(commit.Checkpoint)}
	var state, file any
	if len(commit.Checkpoint) <= checkpointInline {
		s.state = slices.Clone(commit.Checkpoint)
		if s.state == nil {
			s.state = []byte{}
		}
		state = s.state
	} else {
		l.fileNo++ // never used twice, so a file that a transaction names is never overwritten
		s.file = fmt.Sprintf("%s-%016d", l.name, l.fileNo)
		file = s.file
		if err := writeSynced(checkpointDir(l.db.cfg.Path), s.file, commit.Checkpoint); err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
	}
	query := `INSERT INTO internal.checkpoints_` + l.name + ` (state, file, crc, worker, task) VALUES (?, ?, ?, ?, ?)`
	if _, known := l.saved[taskKey{commit.Worker, commit.Task}]; known {
		query = `UPDATE internal.checkpoints_` + l.name + ` SET state = ?, file = ?, crc = ? WHERE worker = ? AND task = ?`
	}
	if err := tx.exec(query, state, file, int64(s.crc), commit.Worker, commit.Task); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return s, nil
}

// keepCheckpoint remembers what a transaction that is on disk has saved, and removes the file that it replaced.
func (l *lane) keepCheckpoint(commit store.Commit, saved *savedCheckpoint) {
	if saved == nil {
		return
	}
	key := taskKey{commit.Worker, commit.Task}
	if old := l.saved[key]; old.file != "" {
		if err := os.Remove(filepath.Join(checkpointDir(l.db.cfg.Path), old.file)); err != nil {
			l.db.cfg.Log.Warn("an old checkpoint stays until the next start", "file", old.file, "error", err)
		}
	}
	l.saved[key] = *saved
}

// dropCheckpoint removes the file of a transaction that is known not to be there, so that retries do not fill the disk.
func (l *lane) dropCheckpoint(saved *savedCheckpoint) {
	if saved == nil || saved.file == "" || l.stale {
		return
	}
	if err := os.Remove(filepath.Join(checkpointDir(l.db.cfg.Path), saved.file)); err != nil {
		l.db.cfg.Log.Warn("an unused checkpoint stays until the next start", "file", saved.file, "error", err)
	}
}

func (l *lane) checkpointFiles() []string {
	var files []string
	for _, s := range l.saved {
		if s.file != "" {
			files = append(files, s.file)
		}
	}
	return files
}

// sweepCheckpoints removes the checkpoint files that no transaction names: a crash left them.
func sweepCheckpoints(path string, keep []string) error {
	entries, err := os.ReadDir(checkpointDir(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if slices.Contains(keep, e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(checkpointDir(path), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// writeSynced writes a file of a new name; when it returns nil, file and name are on disk, and so is the name of dir, which it may make.
func writeSynced(dir, name string, data []byte) (err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := errors.Join(os.MkdirAll(dir, 0o750), syncDir(filepath.Dir(dir))); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // our own names
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // our own directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
