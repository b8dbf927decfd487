// Package rules holds the conditions that routes and alarm rules are written in: CEL expressions over a message, over an
// aggregate, or over a change of a channel's value.
//
// A condition is compiled once (CompileMessage, CompileAggregate, CompileChange) and then asked of many inputs. What it
// says of kind, device, device type and channel by `==` and `in` is read from the expression itself as its Guard, so that an
// Index finds the few conditions that a message can fulfil without asking the others. A condition that says nothing
// else (`kind == "log"`) is answered by its guard alone, and CEL never runs.
//
// The variables of each sort of condition are listed at MessageVariables, AggregateVariables and ChangeVariables. Numbers are
// doubles; an integer that is compared with one, or calculated with one, is read as a double, so `value > 30` and
// `json.level == 3` mean what they say. Beside CEL's own functions there are level("warning"), which turns a severity into
// a number that can be compared, lowerAscii() of a string, and those of CEL's math extension (math.abs, math.least …).
//
// Compiled conditions are safe for concurrent use; the inputs (Message, Aggregate, Change) belong to one goroutine each.
//
// Limits: an expression has at most ExpressionBytesMax bytes, and one evaluation of an expression with loops (exists, all,
// map, filter) may cost at most EvaluationCostMax units of CEL; beyond that it is an error of that evaluation.
//
// Start reading at MessageCondition.
package rules
