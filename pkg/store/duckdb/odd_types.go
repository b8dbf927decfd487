package duckdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"
	"github.com/duckdb/duckdb-go/v2/mapping"
)

// avoidOddTypes has DuckDB turn into JSON or text what the driver cannot read, so that it does not come out between two rows; and
// maps, for which the driver takes quadratic time, and panics on keys such as lists.
func (r *Result) avoidOddTypes(ctx context.Context, statement string) error {
	count, err := r.stmt.ColumnCount()
	if err != nil {
		return err
	}
	some := false
	columns := make([]string, count)
	for i := range columns {
		name, err := r.stmt.ColumnName(i)
		if err != nil {
			return err
		}
		columns[i] = fmt.Sprintf("#%d", i+1)
		info, err := r.stmt.ColumnTypeInfo(i)
		switch {
		case err != nil || unreadable(info):
			some = true
			columns[i] += "::VARCHAR"
		case holdsOdd(info):
			some = true
			columns[i] = "to_json(" + columns[i] + ")"
		}
		columns[i] += ` AS "` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	if !some {
		return nil
	}
	old := r.stmt
	r.stmt, err = r.reader.prepare(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM ("+statement+"\n)")
	return errors.Join(err, old.Close())
}

func unreadable(info duckdb.TypeInfo) bool {
	return info.InternalType() == duckdb.TYPE_VARIANT || info.InternalType() == mapping.TypeTimeNS
}

// holdsOdd reports whether a type is, or holds, a map or what the driver cannot read.
func holdsOdd(info duckdb.TypeInfo) bool {
	switch d := info.Details().(type) {
	case *duckdb.MapDetails:
		return true
	case *duckdb.ListDetails:
		return holdsOdd(d.Child)
	case *duckdb.ArrayDetails:
		return holdsOdd(d.Child)
	case *duckdb.StructDetails:
		return slices.ContainsFunc(d.Entries, func(e duckdb.StructEntry) bool { return holdsOdd(e.Info()) })
	case *duckdb.UnionDetails:
		return slices.ContainsFunc(d.Members, func(m duckdb.UnionMember) bool { return holdsOdd(m.Type) })
	}
	return unreadable(info)
}
