package duckdb

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/store/answer"
)

var explain = regexp.MustCompile(`(?is)^\s*EXPLAIN\s+(?:ANALYZE\s+)?(.*)$`)

// fileName matches names that DuckDB takes for a file's.
var fileName = regexp.MustCompile(`(?i)\.(csv|tsv|txt|json|jsonl|ndjson|parquet|duckdb|db|ddb|gz|zst)$`)

// check reports whether sql is one SELECT (WITH, FROM, VALUES, DESCRIBE, SHOW and SUMMARIZE are SELECTs to DuckDB), or the EXPLAIN
// of one, that calls nothing beyond the lists below. It reads DuckDB's own parse tree, so that no notation escapes it.
//
// The sandbox behind it (read-only transaction, no external access, locked configuration) keeps every other file out, but
// hinders neither COPY and ATTACH inside the archive, nor CHECKPOINT, nor functions that act on the whole instance, nor
// read_blob of the database file itself.
func (r *reader) check(ctx context.Context, sql string) (explained bool, err error) {
	inner := sql
	if m := explain.FindStringSubmatch(sql); m != nil {
		inner, explained = m[1], true
	}
	text, err := r.parse(ctx, `SELECT json_serialize_sql(?::VARCHAR)::VARCHAR`, inner)
	if err != nil {
		return explained, err
	}
	var tree struct {
		Error      bool   `json:"error"`
		Type       string `json:"error_type"`
		Message    string `json:"error_message"`
		Statements []any  `json:"statements"`
	}
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		return explained, fmt.Errorf("%w: the parser's answer: %w", answer.ErrInvalid, err)
	}
	switch {
	case tree.Error && tree.Type == "parser":
		return explained, fmt.Errorf("%w: %s", answer.ErrInvalid, tree.Message)
	case tree.Error:
		return explained, fmt.Errorf("%w: only SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN of these", answer.ErrNotAllowed)
	case len(tree.Statements) != 1:
		return explained, fmt.Errorf("%w: %d statements, want one", answer.ErrNotAllowed, len(tree.Statements))
	}
	return explained, checkNode(tree.Statements[0], false)
}

// parse runs one of DuckDB's own functions over SQL text and returns its answer.
func (r *reader) parse(ctx context.Context, query, sql string) (string, error) {
	rows, err := r.conn.QueryContext(ctx, query, []driver.NamedValue{{Ordinal: 1, Value: sql}})
	if err != nil {
		return "", fmt.Errorf("%w: %w", answer.ErrInvalid, err)
	}
	defer func() { _ = rows.Close() }()
	value := make([]driver.Value, 1)
	if err := rows.Next(value); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("%w: %w", answer.ErrInvalid, err)
	}
	text, _ := value[0].(string)
	return text, nil
}

// checkNode walks the parse tree; table says that node is what a table function is called by.
func checkNode(node any, table bool) error {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			if err := checkNode(child, false); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := checkCall(n, table); err != nil {
			return err
		}
		for key, child := range n {
			if err := checkNode(child, n["type"] == "TABLE_FUNCTION" && key == "function"); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkCall(n map[string]any, table bool) error {
	if n["type"] == "BASE_TABLE" || n["type"] == "SHOW_REF" {
		if err := checkTable(n); err != nil {
			return err
		}
	}
	name, _ := n["function_name"].(string)
	name = strings.ToLower(name)
	switch {
	case name == "":
	case table && !slices.Contains(tableFunctions(), name):
		return fmt.Errorf("%w: table function %s", answer.ErrNotAllowed, name)
	case !table && slices.Contains(forbiddenFunctions(), name):
		return fmt.Errorf("%w: function %s", answer.ErrNotAllowed, name)
	}
	return nil
}

// checkTable reports whether the table that a node names may be read.
func checkTable(n map[string]any) error {
	var parts []string
	for _, key := range []string{"catalog_name", "schema_name", "table_name"} {
		if part, _ := n[key].(string); part != "" {
			parts = append(parts, part)
		}
	}
	if slices.ContainsFunc(parts[:max(len(parts)-1, 0)], func(part string) bool { return strings.EqualFold(part, "internal") }) {
		return fmt.Errorf("%w: schema internal is the driver's own", answer.ErrNotAllowed)
	}
	// A table of a file's name would be read from that file; DuckDB puts the parts of the name together for it.
	name := strings.Join(parts, ".")
	if strings.ContainsAny(name, `/\*?[`) || fileName.MatchString(name) {
		return fmt.Errorf("%w: %s: files are read through the views archive and history", answer.ErrNotAllowed, name)
	}
	if len(parts) > 0 && slices.Contains(forbiddenTables(), strings.ToLower(parts[len(parts)-1])) {
		return fmt.Errorf("%w: %s tells of the process", answer.ErrNotAllowed, name)
	}
	return nil
}

// forbiddenTables are views of DuckDB's own that tell of settings and of where files lie.
func forbiddenTables() []string {
	return []string{"pg_settings", "duckdb_settings", "duckdb_databases", "pragma_database_list", "duckdb_logs"}
}

// tableFunctions are those that only compute, or describe what a reader may see. Reading files by name is not among them: which
// files count, only the views know. Nor are macros that take a table's name as a text, such as histogram.
func tableFunctions() []string {
	return []string{
		"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree", "summary",
		"duckdb_columns", "duckdb_tables", "duckdb_views", "duckdb_functions", "duckdb_types", "duckdb_keywords", "duckdb_schemas",
		"pragma_table_info", "pragma_show", "pragma_version", "icu_calendar_names", "pg_timezone_names",
	}
}

// forbiddenFunctions are scalar functions that act, or that reveal the process.
func forbiddenFunctions() []string {
	return []string{"getenv", "write_log", "nextval", "setseed", "query", "json_execute_serialized_sql", "current_setting", "parse_duckdb_log_message", "getvariable"}
}
