package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/template"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/schemas"
)

// MigrateOptions says how Migrate works.
type MigrateOptions struct {
	// DryRun returns the statements that would be run, and runs none.
	DryRun bool
}

// Statement is one step of a migration.
type Statement struct {
	Migration string // the file that it is from, or "settings" for what follows from the configuration
	SQL       string
}

// ClickHouse's codes of the errors that say that there is nothing yet.
const (
	codeUnknownTable    = 60
	codeUnknownDatabase = 81
)

// Migrate brings the tables and views up to date, and to what cfg says of retention and archive, and returns the statements that it
// ran, those before an error included. It may be run again, also after an error, and by several at once: each statement
// changes nothing where it was run before, and a migration is noted as done after its last one.
func Migrate(ctx context.Context, cfg Config, options MigrateOptions) ([]Statement, error) {
	cfg, conn, err := connect(cfg)
	if err != nil {
		return nil, fmt.Errorf("migrate clickhouse: %w", err)
	}
	done, err := migrate(ctx, cfg, conn, options)
	if err = errors.Join(err, conn.Close()); err != nil {
		return done, fmt.Errorf("migrate clickhouse database %s: %w", cfg.Database, err)
	}
	return done, nil
}

func migrate(ctx context.Context, cfg Config, conn driver.Conn, options MigrateOptions) ([]Statement, error) {
	have, err := readVersion(ctx, cfg, conn)
	if err != nil && !errors.Is(err, ErrNotMigrated) {
		return nil, err
	}
	files, err := migrations()
	if err != nil {
		return nil, err
	}
	if err := have.check(files, true); err != nil {
		return nil, err
	}
	plan, err := missing(cfg, have, files)
	if err != nil {
		return nil, err
	}
	var done []Statement
	for _, s := range plan {
		if err := runStatement(ctx, conn, s, options); err != nil {
			return done, err
		}
		done = append(done, s)
	}
	made, err := definitions(ctx, cfg, conn)
	if err != nil {
		return done, err
	}
	for _, s := range settingsPlan(cfg, made) {
		if err := runStatement(ctx, conn, s, options); err != nil {
			return done, err
		}
		done = append(done, s)
	}
	return done, nil
}

// Plan returns the statements that Migrate runs where there is nothing yet, without a server.
func Plan(cfg Config) ([]Statement, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("plan clickhouse: %w", err)
	}
	files, err := migrations()
	if err != nil {
		return nil, fmt.Errorf("plan clickhouse: %w", err)
	}
	plan, err := missing(cfg, version{}, files)
	if err != nil {
		return nil, fmt.Errorf("plan clickhouse: %w", err)
	}
	return append(plan, settingsPlan(cfg, nil)...), nil
}

// missing returns the statements of what was not done yet.
func missing(cfg Config, have version, files []migration) ([]Statement, error) {
	var plan []Statement
	if !have.known {
		plan = bootstrap(cfg)
	}
	for _, m := range files {
		if have.done[m.version] {
			continue
		}
		statements, err := m.statements(cfg)
		if err != nil {
			return nil, err
		}
		plan = append(plan, statements...)
	}
	return plan, nil
}

func runStatement(ctx context.Context, conn driver.Conn, s Statement, options MigrateOptions) error {
	if options.DryRun {
		return nil
	}
	ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{"async_insert": 0}))
	if err := conn.Exec(ctx, s.SQL); err != nil {
		first, _, _ := strings.Cut(s.SQL, "\n")
		return fmt.Errorf("%s: %s: %w", s.Migration, first, err)
	}
	return nil
}

// bootstrap makes what says which migrations were done.
func bootstrap(cfg Config) []Statement {
	s := script{cfg}
	return []Statement{
		{"bootstrap", "CREATE DATABASE IF NOT EXISTS " + cfg.Database + s.OnCluster()},
		{"bootstrap", "CREATE DATABASE IF NOT EXISTS " + cfg.internal() + s.OnCluster()},
		{"bootstrap", "CREATE TABLE IF NOT EXISTS " + cfg.internal() + ".schema_migrations" + s.OnCluster() +
			" (version UInt32, name String, breaking UInt8, done_at DateTime('UTC') DEFAULT now())" +
			"\nENGINE = " + s.engine("ReplacingMergeTree") + "\nORDER BY version"},
	}
}

// migration is one file of schemas.ClickHouse.
type migration struct {
	version  uint32
	name     string
	text     string
	breaking bool // older releases cannot work with what it makes
}

// migrations returns all, by number.
func migrations() ([]migration, error) {
	names, err := fs.Glob(schemas.ClickHouse(), "*.sql") // sorted
	if err != nil {
		return nil, err
	}
	all := make([]migration, 0, len(names))
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s: want a number before the first underscore", name)
		}
		text, err := fs.ReadFile(schemas.ClickHouse(), name)
		if err != nil {
			return nil, err
		}
		all = append(all, migration{uint32(version), name, string(text), strings.HasPrefix(string(text), "-- breaking\n")})
	}
	return all, nil
}

// statements returns those of the file, and the one that notes that it is done.
func (m migration) statements(cfg Config) ([]Statement, error) {
	var text strings.Builder
	s := script{cfg}
	t, err := template.New(m.name).Funcs(template.FuncMap{"engine": s.engine}).Parse(m.text)
	if err == nil {
		err = t.Execute(&text, s)
	}
	if err != nil {
		return nil, err
	}
	var all []Statement
	for _, sql := range split(text.String()) {
		all = append(all, Statement{m.name, sql})
	}
	breaking := 0
	if m.breaking {
		breaking = 1
	}
	return append(all, Statement{m.name, fmt.Sprintf("INSERT INTO %s.schema_migrations (version, name, breaking) VALUES (%d, %s, %d)",
		cfg.internal(), m.version, quote(m.name), breaking)}), nil
}

// split cuts a script at each semicolon that ends a line, and drops the comments that stand before a statement.
func split(text string) []string {
	var all []string
	for statement := range strings.SplitSeq(text+"\n", ";\n") {
		statement = strings.TrimSpace(statement)
		for strings.HasPrefix(statement, "--") {
			_, rest, _ := strings.Cut(statement, "\n")
			statement = strings.TrimSpace(rest)
		}
		if statement != "" {
			all = append(all, statement)
		}
	}
	return all
}

// script is what the templates of migrations see.
type script struct{ cfg Config }

// Database is the name of the database of the views.
func (s script) Database() string { return s.cfg.Database }

// Internal is the name of the database of the tables.
func (s script) Internal() string { return s.cfg.internal() }

// OnCluster stands behind the name of what is made.
func (s script) OnCluster() string {
	if s.cfg.Cluster == "" {
		return ""
	}
	return " ON CLUSTER " + s.cfg.Cluster
}

// Window has the settings of tables of rows: how many tokens of blocks are remembered (the default is none on a table that is not
// replicated, and an hour's on one that is), and on a single server that a block is on disk before its insert returns: else
// the progress, which follows it, may survive a power failure that the rows do not.
func (s script) Window() string {
	if s.cfg.Replicated {
		return "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"
	}
	return "non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1"
}

// NoWindow is Window for tables in which a block that was there before counts when it comes again.
func (s script) NoWindow() string {
	if s.cfg.Replicated {
		return "replicated_deduplication_window = 0"
	}
	return "non_replicated_deduplication_window = 0, fsync_after_insert = 1, fsync_part_directory = 1"
}

// engine returns a table's engine, of those of MergeTree's family.
func (s script) engine(name string, arguments ...string) string {
	if s.cfg.Replicated {
		name = "Replicated" + name
		arguments = append([]string{quote(s.cfg.ReplicaPath), "'{replica}'"}, arguments...)
	}
	if len(arguments) == 0 {
		return name
	}
	return name + "(" + strings.Join(arguments, ", ") + ")"
}

// version is what the database says of itself.
type version struct {
	known    bool // whether there is anything at all
	done     map[uint32]bool
	breaking map[uint32]string // those that are, by name
}

func readVersion(ctx context.Context, cfg Config, conn driver.Conn) (version, error) {
	v := version{done: make(map[uint32]bool), breaking: make(map[uint32]string)}
	rows, err := conn.Query(ctx, "SELECT version, name, breaking FROM "+cfg.internal()+".schema_migrations FINAL")
	var exception *ch.Exception
	if errors.As(err, &exception) && (exception.Code == codeUnknownTable || exception.Code == codeUnknownDatabase) {
		return v, fmt.Errorf("%w (there is no %s.schema_migrations)", ErrNotMigrated, cfg.internal())
	}
	if err != nil {
		return v, err
	}
	v.known = true
	for rows.Next() {
		var number uint32
		var name string
		var breaking uint8
		if err := rows.Scan(&number, &name, &breaking); err != nil {
			return v, errors.Join(err, rows.Close())
		}
		v.done[number] = true
		if breaking != 0 {
			v.breaking[number] = name
		}
	}
	return v, errors.Join(rows.Err(), rows.Close())
}

// check compares with the migrations that this release has; migrating says that missing ones are about to be run.
func (v version) check(files []migration, migrating bool) error {
	ours := make(map[uint32]bool, len(files))
	for _, m := range files {
		ours[m.version] = true
		if !v.done[m.version] && !migrating {
			return fmt.Errorf("%w (%s was not run)", ErrNotMigrated, m.name)
		}
	}
	for number, name := range v.breaking {
		if !ours[number] {
			return fmt.Errorf("%w (%s)", ErrNewer, name)
		}
	}
	return nil
}

func checkVersion(ctx context.Context, cfg Config, conn driver.Conn) error {
	v, err := readVersion(ctx, cfg, conn)
	if err != nil {
		return err
	}
	files, err := migrations()
	if err != nil {
		return err
	}
	return v.check(files, false)
}

// quote returns s as a SQL string literal.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`).Replace(s) + "'"
}
