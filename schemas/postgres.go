package schemas

import (
	"embed"
	"io/fs"
)

//go:embed postgres/*.sql
var postgresFiles embed.FS

// Postgres returns the migrations of PostgreSQL: NNN_name.sql, to be applied once each in the order of their numbers, with {schema}
// in them replaced by the quoted name of the schema. A published migration never changes; a new one follows it, and only adds.
func Postgres() fs.FS {
	sub, err := fs.Sub(postgresFiles, "postgres")
	if err != nil {
		return postgresFiles // not reached: the folder is embedded
	}
	return sub
}
