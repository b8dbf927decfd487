package standalone_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/services/standalone"
)

// limit is one row of docs/limits.md. Its value is the default of a configuration key, or a constant of the code, written as
// folder:name; so the page cannot say what the code does not do.
type limit struct {
	what  string
	where string // key, or folder:constant
	unit  string // "bytes", "time" or "" for a count; keys know it themselves
	then  string // what happens there
}

type limits struct {
	title string
	rows  []limit
}

// TestDocsLimits makes docs/limits.md.
func TestDocsLimits(t *testing.T) {
	defaults := map[string]string{}
	for _, k := range config.Describe(standalone.DefaultConfig()) {
		defaults[k.Key] = k.Default
	}
	page := bytes.NewBuffer(head(t, "limits.head.md"))
	for _, section := range allLimits() {
		fmt.Fprintf(page, "\n## %s\n\n| limit | value | where it is set | what happens at it |\n|---|---|---|---|\n", section.title)
		for _, l := range section.rows {
			value, where := defaults[l.where], "`"+l.where+"`"
			if folder, name, isConstant := strings.Cut(l.where, ":"); isConstant {
				value, where = shown(t, constantOf(t, folder, name), l.unit), "fixed"
			} else if _, known := defaults[l.where]; !known {
				t.Errorf("%s: there is no key %s", l.what, l.where)
			}
			fmt.Fprintf(page, "| %s | `%s` | %s | %s |\n", l.what, value, where, l.then)
		}
	}
	wantPage(t, "limits.md", page.Bytes())
}

// TestDocsLimitsNameEveryKeyThatLimits fails for a key that bounds something and is not in the table.
func TestDocsLimitsNameEveryKeyThatLimits(t *testing.T) {
	var named []string
	for _, section := range allLimits() {
		for _, l := range section.rows {
			named = append(named, l.where)
		}
	}
	for _, k := range config.Describe(standalone.DefaultConfig()) {
		last := k.Key[strings.LastIndex(k.Key, ".")+1:]
		bounds := strings.HasPrefix(k.Key, "ingest.limits.") || strings.HasPrefix(k.Key, "live.feed.") || strings.HasPrefix(k.Key, "live.query.") ||
			strings.HasPrefix(last, "max_") || strings.HasSuffix(last, "_max") || strings.HasSuffix(last, "memory")
		if bounds && !k.Section && !slices.Contains(named, k.Key) && !strings.Contains(k.Key, "[]") {
			t.Errorf("%s bounds something and is not in docs/limits.md", k.Key)
		}
	}
}

func shown(t *testing.T, v int64, unit string) string {
	t.Helper()
	switch unit {
	case "bytes":
		return config.Bytes(v).String()
	case "time":
		return config.FormatDuration(time.Duration(v))
	case "":
		return fmt.Sprint(v)
	}
	t.Fatalf("unknown unit %q", unit)
	return ""
}

// constantOf reads a constant of the package in a folder, also one that is not exported, from its source.
func constantOf(t *testing.T, folder, name string) int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no Go files: %v", folder, err)
	}
	set := token.NewFileSet()
	for _, file := range files {
		parsed, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if e := initialiser(parsed, name); e != nil {
			return evaluate(t, set, e)
		}
	}
	t.Fatalf("%s has no constant %s", folder, name)
	return 0
}

func initialiser(f *ast.File, name string) (found ast.Expr) {
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return found == nil
		}
		if i := slices.IndexFunc(spec.Names, func(id *ast.Ident) bool { return id.Name == name }); i >= 0 && i < len(spec.Values) {
			found = spec.Values[i]
		}
		return false
	})
	return found
}

// evaluate knows numbers, their operators, and the units of package time.
func evaluate(t *testing.T, set *token.FileSet, e ast.Expr) int64 {
	t.Helper()
	text := types.ExprString(e)
	for unit, nanos := range map[string]time.Duration{
		"time.Millisecond": time.Millisecond, "time.Second": time.Second, "time.Minute": time.Minute, "time.Hour": time.Hour,
		"math.MaxUint16": 1<<16 - 1,
	} {
		text = strings.ReplaceAll(text, unit, fmt.Sprint(int64(nanos)))
	}
	v, err := types.Eval(set, nil, token.NoPos, text)
	if err != nil {
		t.Fatalf("%s: %v", types.ExprString(e), err)
	}
	n, exact := constant.Int64Val(constant.ToInt(v.Value))
	if !exact {
		t.Fatalf("%s is no whole number", text)
	}
	return n
}
