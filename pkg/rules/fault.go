package rules

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
)

// SyntaxError says where an expression is wrong, and why.
type SyntaxError struct {
	Line, Column int // from 1; the column counts characters
	Reason       string
}

// Error returns "line 1, column 9: undeclared reference to 'kin'".
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

var (
	container  = regexp.MustCompile(` \(in container '.*'\)`)
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']+)'$`)
)

// newSyntaxError makes an error of each of CEL's issues, joined.
func newSyntaxError(expr string, issues *cel.Issues, vars []Variable) error {
	var errs []error
	for _, issue := range issues.Errors() {
		reason := container.ReplaceAllString(issue.Message, "")
		reason = strings.TrimPrefix(reason, "Syntax error: ")
		if strings.HasPrefix(reason, "mismatched input '<EOF>'") {
			reason = "the condition ends before it is complete"
		}
		if m := undeclared.FindStringSubmatch(reason); m != nil {
			reason = fmt.Sprintf("there is no variable or function %q, want one of %s", m[1], namesOf(vars))
		}
		fault := &SyntaxError{Line: 1, Column: 1, Reason: reason}
		if issue.Location != nil && issue.Location.Line() > 0 {
			fault.Line, fault.Column = issue.Location.Line(), max(1, issue.Location.Column()+1)
		}
		errs = append(errs, fault)
	}
	if len(errs) == 0 {
		return fmt.Errorf("condition %q: %w", expr, issues.Err())
	}
	return errors.Join(errs...)
}

func namesOf(vars []Variable) string {
	names := make([]string, len(vars))
	for i, v := range vars {
		names[i] = v.Name
	}
	return strings.Join(names, ", ")
}

// checkLiterals refuses a kind or severity that no message ever has: `kind == "Channel"` would be silently false.
func checkLiterals(tree *ast.AST) error {
	var errs []error
	refuse := func(at ast.Expr, reason string) {
		loc := tree.SourceInfo().GetStartLocation(at.ID())
		errs = append(errs, &SyntaxError{Line: loc.Line(), Column: loc.Column() + 1, Reason: reason})
	}
	check := func(name, value ast.Expr) {
		text, ok := textOf(value)
		if !ok || name.Kind() != ast.IdentKind {
			return
		}
		switch name.AsIdent() {
		case "kind":
			if _, ok := kindNamed(text); !ok {
				refuse(value, fmt.Sprintf("kind is never %q, want channel, log, event, session or unknown", text))
			}
		case "severity":
			if _, ok := severityNamed(text); !ok && text != "" {
				refuse(value, fmt.Sprintf("severity is never %q, want trace, debug, info, warning, error or critical", text))
			}
		}
	}
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		args := call.Args()
		switch call.FunctionName() {
		case operators.Equals, operators.NotEquals:
			check(args[0], args[1])
			check(args[1], args[0])
		case operators.In:
			if args[1].Kind() == ast.ListKind {
				for _, element := range args[1].AsList().Elements() {
					check(args[0], element)
				}
			}
		case "level":
			if text, ok := textOf(args[0]); ok {
				if _, ok := severityNamed(text); !ok && text != "" {
					refuse(args[0], fmt.Sprintf("there is no severity %q, want trace, debug, info, warning, error or critical", text))
				}
			}
		}
	}))
	return errors.Join(errs...)
}
