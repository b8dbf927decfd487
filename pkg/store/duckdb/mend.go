package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	mendingSuffix = ".mending"     // a database that is being filled from a damaged one
	noLogSuffix   = ".unreadable"  // of a write-ahead log in the folder of what was set aside
	verifyMax     = int64(8) << 30 // bytes of a database up to which every table is read on opening
)

// Mended says what became of a database that could not be read.
type Mended struct {
	Reason string // what DuckDB said
	Aside  string // folder that has the damaged files
	// WithoutLog says that the write-ahead log could not be read either: what was kept is as of the last checkpoint before it.
	WithoutLog bool
	// Kept are the stores that could be copied whole, with the progress of their workers; Lost those that begin empty, so that their workers
	// read the log again from its beginning. By the names that Stores returns.
	Kept, Lost []string
	// Stateless are stores whose tables are whole, but not a checkpoint of their worker: BeginAnew must be called for each before a worker
	// writes. Files are the checkpoints that cannot be read, by their file or, where they have none, by worker and task.
	Stateless []string
	Files     []string
}

// String says it to people.
func (m *Mended) String() string {
	if m.Reason == "" {
		return m.checkpoints()
	}
	text := "the database could not be read (" + m.Reason + "); its files are in " + m.Aside
	if m.WithoutLog {
		text += "; what was kept is as of the last checkpoint, and the log fills the rest"
	}
	if len(m.Kept) > 0 {
		text += "; kept whole: " + strings.Join(m.Kept, ", ")
	}
	if len(m.Lost) > 0 {
		text += "; begun anew and filled again from the log: " + strings.Join(m.Lost, ", ")
	}
	if len(m.Stateless) > 0 {
		text += "; " + m.checkpoints()
	}
	return text
}

func (m *Mended) checkpoints() string {
	return "checkpoints that cannot be read (" + strings.Join(m.Files, ", ") + "): what " + strings.Join(m.Stateless, " and ") +
		" need to go on is made again from the log"
}

// tablesOf is the tables of a store, all of which change in one transaction.
type tablesOf struct {
	store  string
	tables []string
}

func storeTables() []tablesOf {
	return []tablesOf{
		{"state", []string{"internal.device_state", "internal.devices", "internal.progress_state"}},
		{"logs", []string{"main.logs", "internal.progress_logs"}},
		{"dead_letters", []string{"main.dead_letters", "internal.progress_dead_letters"}},
		{"aggregates", []string{"main.aggregates", "internal.aggregate_states", "internal.checkpoints_aggregates", "internal.progress_aggregates"}},
		{"alarms", []string{"main.alarms", "internal.checkpoints_alarms", "internal.progress_alarms"}},
	}
}

// OpenMended is Open, after every table has been read once (checksums are only looked at by reading). A database that cannot be read is
// moved into the folder aside, which is made, and another takes its place, with those stores that can be copied whole; Mended says which. It
// is nil where nothing was wrong.
func OpenMended(ctx context.Context, cfg Config, aside string) (*DB, *Mended, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	db, err := openVerified(ctx, cfg)
	m := &Mended{Aside: aside}
	if errors.Is(err, ErrDamaged) {
		m.Reason = firstLine(err)
		if err := mend(ctx, cfg, m); err != nil {
			return nil, nil, fmt.Errorf("mend duckdb %s: %w", cfg.Path, errors.Join(err, fmt.Errorf("after: %s", m.Reason)))
		}
		db, err = Open(ctx, cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := db.setCheckpointsAside(m); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	if m.Reason == "" && len(m.Stateless) == 0 {
		return db, nil, nil
	}
	return db, m, nil
}

// setCheckpointsAside moves the checkpoints that are not what was written to m.Aside, and says whose they are.
func (db *DB) setCheckpointsAside(m *Mended) error {
	for _, l := range db.lanes {
		bad := l.damagedCheckpoints()
		if len(bad) == 0 {
			continue
		}
		m.Stateless = append(m.Stateless, l.name)
		m.Files = append(m.Files, bad...)
		for _, name := range bad {
			path := filepath.Join(checkpointDir(db.cfg.Path), name)
			if !pathExists(path) { // it is gone, or lies in its table
				continue
			}
			if err := errors.Join(os.MkdirAll(m.Aside, 0o750), moveAway(path, m.Aside)); err != nil {
				return fmt.Errorf("set aside checkpoint %s: %w", name, err)
			}
		}
	}
	return nil
}

// BeginAnew forgets the progress and the checkpoints of a store, so that its worker reads the log from its beginning. Rows stay, and are
// replaced as they are made again; of aggregates, those of windows from since on go, since the log has all that made them, and what would
// correct older ones is forgotten: they stay as they are, for what the log has of them is less.
func (db *DB) BeginAnew(ctx context.Context, store string, since telemetry.Time) error {
	i := slices.IndexFunc(db.lanes, func(l *lane) bool { return l.name == store })
	if i < 0 {
		return fmt.Errorf("begin %q anew: want one of %s", store, strings.Join(Stores(), ", "))
	}
	l := db.lanes[i]
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.ready(ctx)
	if err == nil {
		err = l.transact(ctx, func(tx *tx) error { return l.forget(tx, since) })
		l.stale = true // memory is read again
	}
	if err != nil {
		return fmt.Errorf("begin %s anew: %w", store, err)
	}
	return nil
}

func (l *lane) forget(tx *tx, since telemetry.Time) error {
	statements := []string{"DELETE FROM internal.progress_" + l.name}
	if l.checkpoints {
		statements = append(statements, "DELETE FROM internal.checkpoints_"+l.name)
	}
	if l.name == "aggregates" {
		statements = append(statements, "DELETE FROM internal.aggregate_states")
		if err := tx.exec("DELETE FROM aggregates WHERE window_start >= make_timestamp_ns(?)", int64(since)); err != nil {
			return err
		}
	}
	for _, s := range statements {
		if err := tx.exec(s); err != nil {
			return err
		}
	}
	return nil
}

func openVerified(ctx context.Context, cfg Config) (*DB, error) {
	if st, err := os.Stat(cfg.Path); err == nil && st.IsDir() {
		return nil, fmt.Errorf("open duckdb %s: it is a directory: %w", cfg.Path, ErrDamaged)
	}
	db, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := db.verify(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// verify reads every table, and so finds blocks that are damaged, with ErrDamaged. It takes about a second a gigabyte; of a database of more
// than 8 GiB only the tables of progress and checkpoints are read.
func (db *DB) verify(ctx context.Context) error {
	st, err := os.Stat(db.cfg.Path)
	if err != nil {
		return fmt.Errorf("verify duckdb %s: %w", db.cfg.Path, err)
	}
	for _, s := range storeTables() {
		for _, table := range s.tables {
			if st.Size() > verifyMax && !strings.Contains(table, "progress") && !strings.Contains(table, "checkpoints") {
				continue
			}
			row := db.pool.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT hash(t) AS h FROM "+table+" AS t) WHERE h IS NOT NULL") //nolint:gosec // the names are constants of ours
			if err := row.Scan(new(int64)); err != nil {
				return fmt.Errorf("verify duckdb %s: %s: %w", db.cfg.Path, table, explainOpen(err))
			}
		}
	}
	return nil
}

// mend fills a fresh database from what can be read of the old one, and puts it in its place. A crash leaves the old one as it is, or the
// new one, or none, and then the old one is in m.Aside.
func mend(ctx context.Context, cfg Config, m *Mended) error {
	fresh := cfg
	fresh.Path = cfg.Path + mendingSuffix
	if err := errors.Join(removeDatabase(fresh.Path), os.MkdirAll(m.Aside, 0o750)); err != nil {
		return err
	}
	db, err := Open(ctx, fresh) // makes the tables
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := attachable(ctx, cfg.Path); err != nil && pathExists(cfg.Path+".wal") {
		if err := os.Rename(cfg.Path+".wal", filepath.Join(m.Aside, filepath.Base(cfg.Path)+".wal"+noLogSuffix)); err != nil {
			return err
		}
		m.WithoutLog = true
	}
	for _, s := range storeTables() {
		if err := copyStore(ctx, cfg.Path, fresh.Path, s.tables); err != nil {
			cfg.Log.Error("a store of a damaged database cannot be copied, it begins anew", "store", s.store, "error", err)
			m.Lost = append(m.Lost, s.store)
			continue
		}
		m.Kept = append(m.Kept, s.store)
	}
	if err := copyFiles(checkpointDir(cfg.Path), checkpointDir(fresh.Path)); err != nil { // those that nobody names any more are swept
		return err
	}
	for _, suffix := range []string{"", ".wal", ".checkpoints"} {
		if err := moveAway(cfg.Path+suffix, m.Aside); err != nil {
			return err
		}
	}
	if err := moveDatabase(fresh.Path, cfg.Path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(cfg.Path))
}

// withDatabase calls f with a connection that has the database at path attached as "old", read only.
func withDatabase(ctx context.Context, path string, f func(c *sql.Conn) error) (err error) {
	connector, err := duckdb.NewConnector("", nil)
	if err != nil {
		return err
	}
	pool := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, pool.Close()) }()
	c, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := execAll(ctx, c, []string{"SET TimeZone = 'UTC'", "ATTACH " + quote(path) + " AS old (READ_ONLY)"}); err != nil {
		return err
	}
	return f(c)
}

func attachable(ctx context.Context, path string) error {
	return withDatabase(ctx, path, func(*sql.Conn) error { return nil })
}

// copyStore copies tables as a whole or not at all. Each store has an instance of DuckDB of its own, since a fatal error ends one.
func copyStore(ctx context.Context, from, to string, tables []string) error {
	return withDatabase(ctx, from, func(c *sql.Conn) error {
		statements := []string{"ATTACH " + quote(to) + " AS new", "BEGIN TRANSACTION"}
		for _, t := range tables {
			statements = append(statements, "INSERT INTO new."+t+" BY NAME SELECT * FROM old."+t)
		}
		return execAll(ctx, c, append(statements, "COMMIT", "CHECKPOINT new", "DETACH new"))
	})
}

func removeDatabase(path string) error {
	return errors.Join(os.RemoveAll(path), os.RemoveAll(path+".wal"), os.RemoveAll(path+".tmp"), os.RemoveAll(checkpointDir(path)))
}

// moveDatabase renames a closed database; the file last, since it is what tells that the others count.
func moveDatabase(from, to string) error {
	if err := os.RemoveAll(from + ".tmp"); err != nil {
		return err
	}
	for _, suffix := range []string{".checkpoints", ".wal", ""} {
		if err := os.Rename(from+suffix, to+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// moveAway moves a file or folder, if it is there, into dir.
func moveAway(path, dir string) error {
	err := os.Rename(path, filepath.Join(dir, filepath.Base(path)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func pathExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// copyFiles copies the files of a folder, if it is there, into another.
func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil || len(entries) == 0 {
		return nil //nolint:nilerr // a store whose checkpoint is missing begins anew
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name())) //nolint:gosec // our own directory
		if err != nil {
			continue // likewise
		}
		if err := writeSynced(to, e.Name(), b); err != nil {
			return err
		}
	}
	return nil
}

// firstLine is what an error says before DuckDB's stack, without the advice, which has been taken.
func firstLine(err error) string {
	line, _, _ := strings.Cut(strings.ReplaceAll(err.Error(), ErrDamaged.Error()+": ", ""), "\n")
	return line
}

// Stores returns the names of the stores, as Mended has them.
func Stores() []string {
	var names []string
	for _, s := range storeTables() {
		names = append(names, s.store)
	}
	return names
}
