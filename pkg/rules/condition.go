package rules

import (
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"

	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	// ExpressionBytesMax is the longest expression that compiles.
	ExpressionBytesMax = 8192
	// EvaluationCostMax is what one evaluation of an expression with loops may cost, in CEL's units: about one for each step.
	// An evaluation that passes it ends with an error. Without loops the length of the expression bounds the cost.
	EvaluationCostMax = 100_000
)

// Variable is a name that a condition may use.
type Variable struct {
	Name string
	Type string // as CEL names it: string, double, int, bool, timestamp, map(string, string), dyn
	Doc  string

	cel *cel.Type
}

// condition is what the three sorts of conditions share.
type condition struct {
	source     string
	guard      Guard
	exact      bool // the guard says it all
	references []string
	program    cel.Program // nil where exact
}

// compile reads expr, whose variables are vars.
func compile(expr string, vars []Variable) (condition, error) {
	if len(expr) > ExpressionBytesMax {
		return condition{}, fmt.Errorf("the condition has %d bytes, want at most %d", len(expr), ExpressionBytesMax)
	}
	env, err := environment(vars)
	if err != nil {
		return condition{}, fmt.Errorf("set up CEL: %w", err)
	}
	parsed, issues := env.Parse(expr)
	if issues.Err() != nil {
		return condition{}, newSyntaxError(expr, issues, vars)
	}
	readNumbers(parsed.NativeRep(), vars)
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return condition{}, newSyntaxError(expr, issues, vars)
	}
	if out := checked.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return condition{}, fmt.Errorf("the condition gives a value of type %s, want true or false", cel.FormatCELType(out))
	}
	tree := checked.NativeRep()
	if err := checkLiterals(tree); err != nil {
		return condition{}, err
	}
	c := condition{source: expr, references: referencesOf(tree.Expr())}
	c.guard, c.exact = analyse(tree.Expr())
	if c.exact {
		return c, nil
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if loops(tree.Expr()) {
		// Counting costs several times what the evaluation does, so it is done only where the input's size multiplies.
		options = append(options, cel.CostLimit(EvaluationCostMax))
	}
	if c.program, err = env.Program(checked, options...); err != nil {
		return condition{}, fmt.Errorf("plan the condition: %w", err)
	}
	return c, nil
}

func environment(vars []Variable) (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(ExpressionBytesMax),
		cel.ParserRecursionLimit(64),
		ext.Math(),
		cel.Function("level", cel.Overload("level_string", []*cel.Type{cel.StringType}, cel.IntType, cel.UnaryBinding(level))),
		cel.Function("lowerAscii", cel.MemberOverload("string_lower_ascii", []*cel.Type{cel.StringType}, cel.StringType,
			cel.UnaryBinding(lowerASCII))),
	}
	for _, v := range vars {
		options = append(options, cel.Variable(v.Name, v.cel))
	}
	return cel.NewEnv(options...)
}

// String returns the expression as it was written.
func (c *condition) String() string { return c.source }

// Guard returns what the expression demands of kind, device, device type and channel: where the guard does not match, the
// condition is false. It is shared and must not be changed.
func (c *condition) Guard() Guard { return c.guard }

// Exact reports whether the guard says all that the expression says, so that no evaluation is needed.
func (c *condition) Exact() bool { return c.exact }

// References returns the names of reference data that the expression uses as reference.<name>, sorted, each once.
func (c *condition) References() []string { return c.references }

// holds asks the condition of an input that its guard may not match.
func (c *condition) holds(key Key, vars cel.Activation) (bool, error) {
	if !c.guard.Matches(key) {
		return false, nil
	}
	if c.exact {
		return true, nil
	}
	out, _, err := c.program.Eval(vars)
	if err != nil {
		return false, fmt.Errorf("condition: %w", err)
	}
	held, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("condition: it gave a value of type %s, want true or false", out.Type().TypeName())
	}
	return bool(held), nil
}

// loops reports whether e contains a comprehension, which is what exists, all, map and filter are.
func loops(e ast.Expr) bool {
	found := false
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		found = found || e.Kind() == ast.ComprehensionKind
	}))
	return found
}

// level is the function of that name: 1 for trace to 6 for critical, 0 for "".
func level(v ref.Val) ref.Val {
	name, ok := v.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	if name == "" {
		return types.Int(telemetry.SeverityNone)
	}
	s, ok := severityNamed(string(name))
	if !ok {
		return types.NewErr("level(%q): want one of trace, debug, info, warning, error, critical", string(name))
	}
	return types.Int(s)
}

func lowerASCII(v ref.Val) ref.Val {
	s, ok := v.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return types.String(b)
}
