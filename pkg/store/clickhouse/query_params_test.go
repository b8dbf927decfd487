package clickhouse

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/store/answer"
)

func TestParametersTakeTheirPlaces(t *testing.T) {
	for _, c := range []struct {
		sql    string
		params []any
		want   string // "" is an error
	}{
		{"SELECT ?", nil, "SELECT ?"},
		{"SELECT ?, ?", []any{1.0, "a"}, "SELECT 1, 'a'"},
		{"SELECT $2, $1, $2", []any{true, nil}, "SELECT NULL, true, NULL"},
		{"SELECT '?', \"?\", `?`, '\\'?', 'a''?', ? -- ?\n/* ? */ # ?\n// ?\n$x$ ? $x$", []any{1.5}, "SELECT '?', \"?\", `?`, '\\'?', 'a''?', 1.5 -- ?\n/* ? */ # ?\n// ?\n$x$ ? $x$"},
		{"SELECT 1-?", []any{-1.0}, "SELECT 1-(-1)"},
		{"SELECT ?", []any{`\' OR 1=1 --`}, `SELECT '\\\' OR 1=1 --'`},
		{"SELECT ?", []any{1e21}, "SELECT 1e+21"},
		{"SELECT a$1, $10", []any{1.0}, ""},
		{"SELECT ?", []any{1.0, 2.0}, ""},
		{"SELECT 1", []any{1.0}, ""},
		{"SELECT ?, ?", []any{1.0}, ""},
		{"SELECT $0", []any{1.0}, ""},
		{"SELECT ?", []any{struct{}{}}, ""},
	} {
		got, err := bind(c.sql, c.params)
		if c.want == "" {
			if !errors.Is(err, answer.ErrInvalid) {
				t.Errorf("%s: %q, %v, want ErrInvalid", c.sql, got, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s\n got %s, %v\nwant %s", c.sql, got, err, c.want)
		}
	}
}

// FuzzParameters holds that a text never ends before its own end, whatever it has in it.
func FuzzParameters(f *testing.F) {
	for _, seed := range []string{"", "'", `\`, `\'`, "''", "\x00", "*/ --", "$1", "größer\n"} {
		f.Add("SELECT ? AS a", seed)
		f.Add(seed+"?", seed)
	}
	f.Fuzz(func(t *testing.T, sql, text string) {
		bound, err := bind(sql, []any{text})
		if err != nil {
			return
		}
		if !strings.Contains(sql, "?") && !strings.Contains(sql, "$1") {
			t.Errorf("%q has no place for %q and gave %q", sql, text, bound)
		}
		alone, err := bind("?", []any{text})
		if err != nil || skip(alone, 0) != len(alone) || !strings.Contains(bound, alone) {
			t.Errorf("%q became %q, which is not one text, or not in %q (%v)", text, alone, bound, err)
		}
	})
}

func TestAParseTreeWithMadeUpLinesHidesNothing(t *testing.T) {
	g := guard{database: "millrace", foreign: []string{"system"}, elsewhere: map[string]string{"alarms": "postgres"}}
	for _, tree := range []string{
		"SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  Identifier x (alias a\n TableExpression)\n  Function file (children 1)",
		"SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  TableExpression (children 1)\n   Function url (children 1)",
		"SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  TableExpression (children 1)\n   TableIdentifier system.one",
		"SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n   Identifier system.one",
		"SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  TableExpression (children 1)\n   TableIdentifier alarms",
		"SelectWithUnionQuery (children 2)\n ExpressionList (children 1)\n Identifier CSV",
		"SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  SelectQuery (children 2)\n   Set",
		"InsertQuery", "Explain EXPLAIN (children 1)", "Explain EXPLAIN (children 2)\n Set\n SelectWithUnionQuery",
	} {
		if err := g.tree("", strings.Split(tree, "\n")); !errors.Is(err, answer.ErrNotAllowed) {
			t.Errorf("%s\n%v, want ErrNotAllowed", tree, err)
		}
	}
}
