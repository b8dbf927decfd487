package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/store/answer"
)

var showTables = regexp.MustCompile(`(?is)^\s*SHOW\s+TABLES\s*;?\s*$`)

// check reports whether statement only reads, and only the database's own tables. It reads the server's own parse tree, so that no
// notation escapes it. Names in the tree may hold line breaks, so a line may be made up, but none can be hidden: whatever a line says
// counts, and what must stand before a line is looked for right before it.
//
// The fence behind it (readonly) keeps table functions that reach out of the server away, but neither scalar functions that do, nor
// other databases: those only the rights of a user of its own keep away, see QueryConfig.
func (q *querier) check(ctx context.Context, conn driver.Conn, statement string) error {
	if err := checkWords(statement); err != nil {
		return err
	}
	databases, err := texts(ctx, conn, "SELECT name FROM system.databases")
	if err != nil {
		return fmt.Errorf("names of databases: %w", err)
	}
	tree, err := texts(ctx, conn, "EXPLAIN AST "+statement)
	if err != nil {
		return err
	}
	if len(tree) == 0 {
		return fmt.Errorf("%w: there is no statement", answer.ErrInvalid)
	}
	g := guard{database: q.cfg.Database, elsewhere: q.cfg.Elsewhere}
	for _, name := range databases {
		if name != q.cfg.Database {
			g.foreign = append(g.foreign, strings.ToLower(name))
		}
	}
	return g.tree(statement, tree)
}

// checkWords refuses what would count for the statement that asks for the parse tree as well: the form of its answer, a file for it,
// settings. Such words are allowed as names in quotes, and format as a function.
func checkWords(statement string) error {
	for at := 0; at < len(statement); {
		end := skip(statement, at)
		if end == at {
			at++
			continue
		}
		switch word := strings.ToLower(statement[at:end]); word {
		case "format":
			if strings.HasPrefix(strings.TrimLeft(statement[end:], " \t\r\n"), "(") {
				break
			}
			fallthrough
		case "outfile", "settings":
			return refused("%s", strings.ToUpper(word))
		}
		at = end
	}
	return nil
}

// texts runs a statement of ours and returns its first column.
func texts(ctx context.Context, conn driver.Conn, statement string) ([]string, error) {
	rows, err := conn.Query(ctx, statement)
	if err != nil {
		return nil, err
	}
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		all = append(all, strings.Split(text, "\n")...)
	}
	return all, errors.Join(rows.Err(), rows.Close())
}

// guard looks at a parse tree, a line a node, indented by its depth.
type guard struct {
	database  string
	foreign   []string          // other databases, in small letters
	elsewhere map[string]string // engines of tables that are not here
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{answer.ErrNotAllowed}, args...)...)
}

func (g guard) tree(statement string, lines []string) error {
	kind, _, _ := strings.Cut(lines[0], " ")
	top := 1 // the depth at which a SELECT has its parts
	switch kind {
	case "SelectWithUnionQuery", "DescribeQuery":
	case "Explain":
		top = 2
		if len(lines) < 2 || !strings.HasPrefix(lines[1], " SelectWithUnionQuery") {
			return refused("EXPLAIN of anything but a SELECT, or with settings")
		}
	case "ShowTables":
		if showTables.MatchString(statement) {
			return nil
		}
		return refused("SHOW of anything but TABLES")
	default:
		return refused("only SELECT, WITH, EXPLAIN of these, DESCRIBE and SHOW TABLES")
	}
	for i, line := range lines[1:] {
		node := strings.TrimLeft(line, " ")
		depth := len(line) - len(node)
		if node == "Set" || kind != "DescribeQuery" && depth == top && !strings.HasPrefix(node, "ExpressionList") {
			return refused("SETTINGS, FORMAT and INTO OUTFILE")
		}
		if err := g.node(node, strings.TrimLeft(lines[i], " ")); err != nil {
			return err
		}
	}
	return nil
}

// node looks at one line and the one before it.
func (g guard) node(node, before string) error {
	what, rest, _ := strings.Cut(node, " ")
	name, _, _ := strings.Cut(rest, " (")
	switch what {
	case "TableIdentifier":
		qualifier, table, ok := cutLast(name)
		if ok && qualifier != g.database {
			return refused("%s.%s: only tables of the database %s", qualifier, table, g.database)
		}
		if engine := g.elsewhere[table]; engine != "" {
			return refused("%s is kept by %s, which SQL does not reach: its own resource of the query API does", table, engine)
		}
	case "Identifier": // of a column, or of a table behind IN
		if qualifier, _, ok := strings.Cut(name, "."); ok && slices.Contains(g.foreign, strings.ToLower(qualifier)) {
			return refused("%s: %s is another database", name, qualifier)
		}
	case "Function":
		switch {
		case strings.HasPrefix(before, "TableExpression"):
			if !slices.Contains(tableFunctions(), strings.ToLower(name)) {
				return refused("table function %s", name)
			}
		case forbiddenFunction(name):
			return refused("function %s", name)
		}
	}
	return nil
}

func cutLast(name string) (before, after string, found bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// tableFunctions are those that only compute.
func tableFunctions() []string {
	return []string{"numbers", "numbers_mt", "zeros", "generateseries", "generate_series", "values", "sqlstandardvalues", "view"}
}

// forbiddenFunction reports whether a function reads what is in no table of ours, tells of the server, acts, waits, or asks others.
func forbiddenFunction(name string) bool {
	name = strings.ToLower(name)
	for _, prefix := range []string{
		"dict", "joinget", "ai", "llm", "addressto", "transaction", "filesystem", "zookeeper", "keeper", "current", "default", "enabled", "authenticated",
		"getserver", "getmacro", "getsetting", "getclient", "getos", "getmergetree", "mergetree", "iceberg", "url", "s3", "remote", "executable",
	} {
		if strings.HasPrefix(name, prefix) {
			return !slices.Contains([]string{"currentdatabase", "current_database", "current_timestamp", "current_date", "defaultvalueoftypename"}, name) &&
				!strings.HasPrefix(name, "urlhierarchy") && !strings.HasPrefix(name, "urlpathhierarchy")
		}
	}
	return slices.Contains([]string{
		"file", "hascolumnintable", "catboostevaluate", "evalmlmethod", "modelevaluate", "naivebayesclassifier", "logtrace", "showcertificate", "sleep",
		"sleepeachrow", "trap", "generateserialid", "reversednsquery", "hostname", "hostid", "fqdn", "fullhostname", "displayname", "user", "session_user",
		"initialuser", "tcpport", "serveruuid", "uptime", "buildid", "globalvariable", "fuzzquery", "hasthreadfuzzer", "demangle",
		"shardnum", "shardcount", "connectionid", "connection_id", "tid",
	}, name)
}
