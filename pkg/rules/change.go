package rules

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/millrace/millrace/pkg/telemetry"
)

// ChangeVariables lists what a condition over a change may use: what a message condition may, and what was before.
func ChangeVariables() []Variable {
	return typed(append(MessageVariables(),
		Variable{Name: "new", cel: cel.StringType, Doc: "the value as the device wrote it; the same as channelValue"},
		Variable{Name: "old", cel: cel.StringType, Doc: "the value before, empty where there was none"},
		Variable{Name: "hasOld", cel: cel.BoolType, Doc: "whether there was a value before"},
		Variable{Name: "oldValue", cel: cel.DoubleType, Doc: "the number in old; where there is none, using it is an error"},
		Variable{Name: "hasOldValue", cel: cel.BoolType, Doc: "whether there is such a number"},
		Variable{Name: "oldJson", cel: cel.DynType, Doc: "old where that is a JSON object or array, else an empty object"},
	))
}

// ChangeCondition is a condition over a channel's value and the one before. Safe for concurrent use.
type ChangeCondition struct{ condition }

// CompileChange reads expr. Its errors name line and column, see SyntaxError; several are joined.
func CompileChange(expr string) (*ChangeCondition, error) {
	c, err := compile(expr, ChangeVariables())
	if err != nil {
		return nil, err
	}
	return &ChangeCondition{c}, nil
}

// Matches reports whether the condition holds for in; an error says why that could not be told.
func (c *ChangeCondition) Matches(in *Change) (bool, error) { return c.holds(in.key, in) }

// Previous is the value that a channel had before.
type Previous struct {
	Known    bool // false: there was none
	Text     []byte
	Value    float64
	HasValue bool
}

// Change is the input of change conditions. Fill it with Set; one goroutine uses it.
type Change struct {
	Message
	old     Previous
	oldJSON ref.Val // nil until asked for
}

// Set makes m the message, and old the value before it, of which conditions are asked. Both are kept until the next Set.
func (in *Change) Set(m *telemetry.Message, reference map[string]any, old Previous) {
	in.Message.Set(m, reference)
	in.old, in.oldJSON = old, nil
}

// ResolveName implements CEL's activation.
func (in *Change) ResolveName(name string) (any, bool) {
	switch name {
	case "new":
		return types.String(in.m.ChannelValue), true
	case "old":
		return types.String(in.old.Text), true
	case "hasOld":
		return types.Bool(in.old.Known), true
	case "oldValue":
		if !in.old.HasValue {
			return types.NewErr("oldValue: the value before was no number; ask hasOldValue first"), true
		}
		return types.Double(in.old.Value), true
	case "hasOldValue":
		return types.Bool(in.old.HasValue), true
	case "oldJson":
		if in.oldJSON == nil {
			v, ok := parseJSON(in.old.Text)
			if !ok {
				v = types.DefaultTypeAdapter.NativeToValue(map[string]any{})
			}
			in.oldJSON = v
		}
		return in.oldJSON, true
	}
	return in.Message.ResolveName(name)
}
