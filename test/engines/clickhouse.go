package engines

import (
	"context"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/test/engines/internal/chdb"
)

const (
	chdbVersion        = "26.5.3"
	clickhouseUser     = "millrace"
	clickhousePassword = "millrace-secret"
)

// clickhouse is ClickHouse's own engine, which npm has as a library, with this program as the server before it: HTTP and
// the native protocol. The user default needs no password; another one has one.
func clickhouse() engine {
	return engine{
		name: "clickhouse", nodes: 1, ports: []string{"native", "http"},
		machine: "linux/amd64",
		needs:   []tool{{command: "npm", debian: "npm"}},
		programs: func() recipe {
			return recipe{name: "chdb", version: chdbVersion, make: func(ctx context.Context, s *site, dir string) error {
				return npmFile(ctx, s, dir, "@chdb/lib-linux-x64-gnu@"+chdbVersion, "libchdb.so")
			}}
		},
		configure: func(_ context.Context, s *site) error {
			return os.MkdirAll(filepath.Join(s.node(1), "tmp"), 0o700)
		},
		command: func(s *site, _ int) (command, error) {
			return command{path: s.self, args: []string{
				chdb.Command, "-library", filepath.Join(s.Programs, "libchdb.so"), "-dir", filepath.Join(s.node(1), "data"),
				"-http", s.addr(1, "http"), "-tcp", s.addr(1, "native"), "-user", clickhouseUser,
			}, env: []string{"TZ=UTC", "TMPDIR=" + filepath.Join(s.node(1), "tmp"), chdb.PasswordVariable + "=" + clickhousePassword}}, nil
		},
		healthy: func(ctx context.Context, s *site, _ int) error {
			return getOK(ctx, "http://"+s.addr(1, "http")+"/?query=SELECT+1", nil)
		},
		settings: func(s *site) (map[string]string, error) {
			return map[string]string{
				"url": "clickhouse://default@" + s.addr(1, "native") + "/default", "http_url": "http://default@" + s.addr(1, "http") + "/default",
				"user": clickhouseUser, "password": clickhousePassword,
			}, nil
		},
	}
}
