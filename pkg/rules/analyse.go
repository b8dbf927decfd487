package rules

import (
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/millrace/millrace/pkg/telemetry"
)

// analyse returns the guard of e, and whether e says no more than it. Where the guard is not fulfilled, e is false, and not an
// error: an error on one side of && gives way to false on the other.
func analyse(e ast.Expr) (Guard, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		if held, ok := e.AsLiteral().(types.Bool); ok {
			if held {
				return nil, true
			}
			return Guard{}, true
		}
	case ast.CallKind:
		return analyseCall(e.AsCall())
	default:
	}
	return nil, false
}

func analyseCall(call ast.CallExpr) (Guard, bool) {
	args := call.Args()
	if len(args) != 2 {
		return nil, false
	}
	switch call.FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr:
		left, leftExact := analyse(args[0])
		right, rightExact := analyse(args[1])
		join := left.and
		if call.FunctionName() == operators.LogicalOr {
			join = left.or
		}
		guard, exact := join(right)
		return guard, exact && leftExact && rightExact
	case operators.Equals:
		if args[0].Kind() == ast.LiteralKind {
			args = []ast.Expr{args[1], args[0]}
		}
		return demand(args[0], args[1:])
	case operators.NotEquals:
		if args[0].Kind() == ast.LiteralKind {
			args = []ast.Expr{args[1], args[0]}
		}
		return refuseKind(args[0], args[1])
	case operators.In:
		if args[1].Kind() == ast.ListKind {
			return demand(args[0], args[1].AsList().Elements())
		}
	}
	return nil, false
}

// demand is the guard of "name is one of values".
func demand(name ast.Expr, values []ast.Expr) (Guard, bool) {
	if name.Kind() != ast.IdentKind {
		return nil, false
	}
	texts := make([]string, 0, len(values))
	for _, v := range values {
		text, ok := textOf(v)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
	switch name.AsIdent() {
	case "kind":
		named := make([]telemetry.Kind, 0, len(texts))
		for _, text := range texts {
			if k, ok := kindNamed(text); ok {
				named = append(named, k)
			}
		}
		return Guard{{Kinds: named}}, true
	case "deviceId":
		return Guard{{Devices: texts}}, true
	case "deviceType":
		return Guard{{DeviceTypes: texts}}, true
	case "channelKey":
		return Guard{{Channels: texts}}, true
	}
	return nil, false
}

// refuseKind is the guard of `kind != "…"`: there are few kinds, so it is one of the others.
func refuseKind(name, value ast.Expr) (Guard, bool) {
	text, ok := textOf(value)
	if !ok || name.Kind() != ast.IdentKind || name.AsIdent() != "kind" {
		return nil, false
	}
	others := slices.DeleteFunc(kinds(), func(k telemetry.Kind) bool { return kindName(k) == text })
	return Guard{{Kinds: others}}, true
}

func textOf(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}

// referencesOf returns the names that e selects from the variable reference.
func referencesOf(e ast.Expr) []string {
	var names []string
	note := func(operand ast.Expr, name string) {
		if operand.Kind() == ast.IdentKind && operand.AsIdent() == "reference" {
			names = append(names, name)
		}
	}
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			note(e.AsSelect().Operand(), e.AsSelect().FieldName())
		case ast.CallKind:
			call := e.AsCall()
			if call.FunctionName() != operators.Index || len(call.Args()) != 2 {
				return
			}
			if name, ok := textOf(call.Args()[1]); ok {
				note(call.Args()[0], name)
			}
		default:
		}
	}))
	slices.Sort(names)
	return slices.Compact(names)
}
