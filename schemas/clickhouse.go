package schemas

import (
	"embed"
	"io/fs"
)

//go:embed clickhouse/*.sql
var clickHouseFiles embed.FS

// ClickHouse returns the migrations of ClickHouse: NNN_name.sql, to be applied once each in the order of their numbers. Each is
// a text/template (see package clickhouse) of statements that end with a semicolon at the end of a line, and each statement may
// be run again, since DDL has no transactions. A published migration never changes; a new one follows it. One that older
// releases cannot work with begins with the line "-- breaking".
func ClickHouse() fs.FS {
	sub, err := fs.Sub(clickHouseFiles, "clickhouse")
	if err != nil {
		return clickHouseFiles // not reached: the folder is embedded
	}
	return sub
}
