package rules

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// readNumbers turns integer literals into doubles where the other operand is a double, or a value out of JSON, whose numbers
// are doubles. CEL itself refuses `value == 30` and `value * 2`.
func readNumbers(tree *ast.AST, vars []Variable) {
	fractional := make(map[string]bool)
	for _, v := range vars {
		fractional[v.Name] = v.cel.IsExactType(cel.DoubleType) || v.cel.IsExactType(cel.DynType)
	}
	fractional["reference"] = true
	n := numbers{fractional: fractional, factory: ast.NewExprFactory()}
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(n.visit))
}

type numbers struct {
	fractional map[string]bool
	factory    ast.ExprFactory
}

func (n numbers) visit(e ast.Expr) {
	if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 {
		return
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater,
		operators.GreaterEquals, operators.Add, operators.Subtract, operators.Multiply, operators.Divide:
		if n.isFractional(args[0]) {
			n.toDouble(args[1])
		} else if n.isFractional(args[1]) {
			n.toDouble(args[0])
		}
	case operators.In:
		if n.isFractional(args[0]) && args[1].Kind() == ast.ListKind {
			for _, element := range args[1].AsList().Elements() {
				n.toDouble(element)
			}
		}
	}
}

// isFractional reports whether e is surely no integer. What it does not know it leaves to CEL, which then says so.
func (n numbers) isFractional(e ast.Expr) bool {
	switch e.Kind() {
	case ast.LiteralKind:
		_, ok := e.AsLiteral().(types.Double)
		return ok
	case ast.IdentKind:
		return n.fractional[e.AsIdent()]
	case ast.SelectKind:
		return !e.AsSelect().IsTestOnly() && n.isFractional(e.AsSelect().Operand())
	case ast.CallKind:
		return n.isFractionalCall(e.AsCall())
	default:
		return false
	}
}

func (n numbers) isFractionalCall(call ast.CallExpr) bool {
	args := call.Args()
	switch call.FunctionName() {
	case operators.Index, operators.Negate:
		return n.isFractional(args[0])
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide:
		return n.isFractional(args[0]) || n.isFractional(args[1])
	case "double":
		return true
	case "abs", "math.abs", "math.@min", "math.@max", "math.round", "math.floor", "math.ceil":
		return len(args) > 0 && n.isFractional(args[0])
	}
	return false
}

func (n numbers) toDouble(e ast.Expr) {
	if e.Kind() != ast.LiteralKind {
		return
	}
	if v, ok := e.AsLiteral().(types.Int); ok {
		e.SetKindCase(n.factory.NewLiteral(e.ID(), types.Double(v)))
	}
}
