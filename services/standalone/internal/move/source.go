package move

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/standalone/internal/scan"
)

// Source is the embedded instance, which stands still: nobody writes either, and history is not maintained.
type Source struct {
	DB      *duckdb.DB // whose Config.History is History
	History *parquet.History
	Archive string // directory of History's files
}

// chunk is a part of a table that is read at a time.
type chunk struct {
	label    string         // of the day, "" in a table without days: no write crosses from one label to another
	path     string         // of a file of history; else the rows are those of the database
	from, to telemetry.Time // of the table's time column, from inclusive, to exclusive; both 0: all
	units    uint64         // rows, or what stands for one
}

// days returns the rows of a table of the database by day of a column of it, in order.
func (s *Source) days(ctx context.Context, table, column string) ([]chunk, error) {
	const day = 24 * 3600 * 1_000_000_000
	var all []chunk
	query := fmt.Sprintf(`SELECT epoch_ns(date_trunc('day', "%s"::TIMESTAMP))::BIGINT AS d, count(*) FROM %s GROUP BY 1 ORDER BY 1`, column, table)
	for row, err := range s.rows(ctx, query) {
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", table, err)
		}
		from := telemetry.Time(scan.As[int64](row[0]))
		all = append(all, chunk{label: dayOf(from), from: from, to: from + day, units: uint64(scan.As[int64](row[1]))}) //nolint:gosec // a count
	}
	return all, nil
}

// whole returns the rows of a table of the database as one.
func (s *Source) whole(ctx context.Context, table string) ([]chunk, error) {
	for row, err := range s.rows(ctx, `SELECT count(*) FROM `+table) {
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", table, err)
		}
		return []chunk{{units: uint64(scan.As[int64](row[0]))}}, nil //nolint:gosec // a count
	}
	return nil, fmt.Errorf("count %s: no answer", table)
}

// files returns the files of history, in the order of the manifest.
func (s *Source) files() ([]chunk, error) {
	snapshot, err := s.History.Take()
	if err != nil {
		return nil, err
	}
	defer snapshot.Release()
	if n := snapshot.RowCount(); n > 0 {
		return nil, fmt.Errorf("history has %d rows in memory: somebody writes to it", n)
	}
	var all []chunk
	for _, f := range snapshot.Info() {
		all = append(all, chunk{
			label: dayOf(f.MinEvent), path: filepath.Join(s.Archive, filepath.FromSlash(f.Path)), units: uint64(f.Rows), //nolint:gosec // a count
		})
	}
	return all, nil
}

func dayOf(t telemetry.Time) string { return t.Std().Format("2006-01-02") }

// rows yields the rows of a statement of ours; the values hold until the next one.
func (s *Source) rows(ctx context.Context, statement string, args ...any) iter.Seq2[[]any, error] {
	return scan.Query(ctx, s.DB, statement, args...)
}
