package engines

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	postgresUser     = "millrace"
	postgresPassword = "millrace-secret"
	postgresDatabase = "millrace"
)

// postgres is the server that the machine has, of whatever version, with a cluster of its own.
func postgres() engine {
	found := []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"}
	var needs []tool
	for _, name := range []string{"initdb", "postgres", "pg_isready", "psql"} {
		needs = append(needs, tool{command: name, debian: "postgresql", dirs: found})
	}
	return engine{
		name: "postgres", nodes: 1, ports: []string{"sql"}, needs: needs,
		configure: configurePostgres,
		command: func(s *site, _ int) (command, error) {
			as, err := unprivileged()
			if err != nil {
				return command{}, err
			}
			// The one that wrote it is gone, but while its parent has not noticed, the server would take it for alive.
			if err := os.Remove(filepath.Join(s.Data, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return command{}, err
			}
			return command{path: s.Tools["postgres"], args: []string{"-D", s.Data}, user: as}, nil
		},
		healthy: func(ctx context.Context, s *site, _ int) error {
			_, err := run(ctx, command{path: s.Tools["pg_isready"], args: []string{
				"-q", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port(1, "sql")), "-d", "postgres",
			}})
			return err
		},
		settle: func(ctx context.Context, s *site) error {
			found, err := postgresAsk(ctx, s, "SELECT 1 FROM pg_database WHERE datname = '"+postgresDatabase+"'")
			if err != nil || len(found) > 0 {
				return err
			}
			_, err = postgresAsk(ctx, s, "CREATE DATABASE "+postgresDatabase)
			return err
		},
		settings: func(s *site) (map[string]string, error) {
			return map[string]string{
				"url": postgresURL(s, postgresDatabase), "user": postgresUser, "password": postgresPassword, "database": postgresDatabase,
			}, nil
		},
		stop: syscall.SIGINT, // "fast": SIGTERM would wait for the clients to leave
	}
}

func postgresAsk(ctx context.Context, s *site, sql string) (answer []byte, err error) {
	return run(ctx, command{path: s.Tools["psql"], args: []string{
		"-q", "-X", "-t", "-A", "-v", "ON_ERROR_STOP=1", postgresURL(s, "postgres"), "-c", sql,
	}})
}

func postgresURL(s *site, database string) string {
	return "postgres://" + postgresUser + ":" + postgresPassword + "@" + s.addr(1, "sql") + "/" + database + "?sslmode=disable"
}

func configurePostgres(ctx context.Context, s *site) error {
	as, err := unprivileged()
	if err != nil {
		return err
	}
	if err := postgresData(ctx, s, as); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.Data, "PG_VERSION")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	secret := filepath.Join(s.Data, "..", "password")
	if err := errors.Join(writeFile(secret, []byte(postgresPassword)), as.own(secret)); err != nil {
		return err
	}
	if _, err := run(ctx, command{path: s.Tools["initdb"], user: as, args: []string{
		"-D", s.Data, "-U", postgresUser, "--pwfile", secret, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8",
	}}); err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(s.Data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString("listen_addresses = '127.0.0.1'\nport = " + strconv.Itoa(s.port(1, "sql")) +
		"\nunix_socket_directories = ''\nmax_connections = 200\n")
	return errors.Join(err, conf.Close())
}

// postgresData chooses where the data is: below the set, or, where the user that the server runs as cannot come there
// (below root's home, say), in the machine's directory for temporary files.
func postgresData(ctx context.Context, s *site, as *account) error {
	if s.Data != "" {
		return nil
	}
	home := filepath.Join(s.node(1), "home")
	if err := errors.Join(os.MkdirAll(home, 0o700), as.own(home)); err != nil {
		return err
	}
	if _, err := run(ctx, command{path: "/bin/sh", args: []string{"-c", "cd '" + home + "'"}, user: as}); err != nil {
		if home, err = os.MkdirTemp("", "millrace-postgres-"); err != nil {
			return err
		}
		if err := as.own(home); err != nil {
			return err
		}
	}
	s.Data = filepath.Join(home, "data")
	return s.save()
}
