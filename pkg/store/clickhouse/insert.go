package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
	"unsafe"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// columnType is a column as it is sent. Low cardinality is the server's affair: a dictionary that the client library makes costs this
// process as much as sending the text, and needs a map entry and an allocation a value where values differ.
type columnType struct{ name, kind string }

// insert sends one block: columns are slices beside types, all of one length. When it returns nil the rows are on the server's
// disk as far as the table's settings say (fsync_after_insert). After an error they may be there or not, now or a little later:
// the same block is sent again under the same token. token is "" where blocks are not told apart.
func (db *DB) insert(ctx context.Context, table string, types []columnType, token string, columns []any) (err error) {
	names := make([]string, len(types))
	known := make([]ch.ColumnNameAndType, len(types))
	for i, t := range types {
		names[i] = t.name
		known[i] = ch.ColumnNameAndType{Name: t.name, Type: t.kind}
	}
	settings := ch.Settings{
		"async_insert":                                       0, // on by default since 26.2: it would acknowledge, or gather, what we count on
		"max_partitions_per_insert_block":                    0, // a device may deliver what it kept for months
		"low_cardinality_allow_in_native_format":             0,
		"deduplicate_blocks_in_dependent_materialized_views": 1, // for views that users hang behind our tables
	}
	if token != "" {
		settings["insert_deduplication_token"] = token
	}
	if db.cfg.Replicated {
		settings["insert_quorum"] = "auto" // else what was acknowledged may die with one replica
	}
	ctx = ch.Context(ctx, ch.WithSettings(settings), ch.WithColumnNamesAndTypes(known))
	batch, err := db.conn.PrepareBatch(ctx, "INSERT INTO "+db.cfg.internal()+"."+table+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	if err := fill(batch, types, columns); err != nil {
		return errors.Join(fmt.Errorf("insert into %s: %w", table, err), batch.Abort())
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}

func fill(batch driver.Batch, types []columnType, columns []any) error {
	for i, c := range columns {
		if err := batch.Column(i).Append(c); err != nil {
			return fmt.Errorf("column %s: %w", types[i].name, err)
		}
	}
	return nil
}

// query asks for something of ours. The caller closes the rows.
func (db *DB) query(ctx context.Context, sql string) (driver.Rows, error) {
	settings := ch.Settings{
		"do_not_merge_across_partitions_select_final": 1, // equal keys share a partition
		"max_query_size": 64 << 20,
	}
	if db.cfg.Replicated {
		settings["select_sequential_consistency"] = 1 // a replica that lags would show an older progress
	}
	return db.conn.Query(ch.Context(ctx, ch.WithSettings(settings)), sql)
}

// alias returns the bytes as a string, without a copy: the client library copies it into its block before insert returns.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) } //nolint:gosec // see above

// text returns s as UTF-8: bytes that are none become U+FFFD, as in every other engine.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// textOrNull is text, or null where b is empty.
func textOrNull(b []byte) *string {
	if len(b) == 0 {
		return nil
	}
	s := text(alias(b))
	return &s
}
