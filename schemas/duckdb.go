package schemas

import (
	"embed"
	"io/fs"
)

//go:embed duckdb/*.sql
var duckDBFiles embed.FS

// DuckDB returns the migrations of the embedded database: NNN_name.sql, to be applied once each in the order of their
// numbers. A published migration never changes; a new one follows it.
func DuckDB() fs.FS {
	sub, err := fs.Sub(duckDBFiles, "duckdb")
	if err != nil {
		return duckDBFiles // not reached: the folder is embedded
	}
	return sub
}
