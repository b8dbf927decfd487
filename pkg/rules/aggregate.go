package rules

import (
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/millrace/millrace/pkg/telemetry"
)

// AggregateVariables lists what a condition over an aggregate may use.
func AggregateVariables() []Variable {
	vars := []Variable{
		{Name: "tenant", cel: cel.StringType, Doc: "the tenant, default where none is configured"},
		{Name: "deviceId", cel: cel.StringType, Doc: "the device"},
		{Name: "deviceType", cel: cel.StringType, Doc: "the device's type, empty where it is not known"},
		{Name: "channelKey", cel: cel.StringType, Doc: "the channel"},
		{Name: "windowStart", cel: cel.TimestampType, Doc: "when the window begins"},
		{Name: "windowEnd", cel: cel.TimestampType, Doc: "when it ends"},
		{Name: "windowSeconds", cel: cel.DoubleType, Doc: "how long it is"},
		{Name: "final", cel: cel.BoolType, Doc: "whether it has closed; an open one shows its running values"},
		{Name: "revision", cel: cel.IntType, Doc: "1 when it first closed, one more for each correction, 0 while open"},
		{Name: "count", cel: cel.IntType, Doc: "how many values it holds"},
	}
	for _, name := range []string{"min", "max", "sum", "avg", "first", "last", "p50", "p95", "p99"} {
		vars = append(vars, Variable{Name: name, cel: cel.DoubleType, Doc: "of the window's values"})
	}
	return typed(vars)
}

// AggregateCondition is a condition over one window of one channel. Safe for concurrent use. Its guard sees KindChannel.
type AggregateCondition struct{ condition }

// CompileAggregate reads expr. Its errors name line and column, see SyntaxError; several are joined.
func CompileAggregate(expr string) (*AggregateCondition, error) {
	c, err := compile(expr, AggregateVariables())
	if err != nil {
		return nil, err
	}
	return &AggregateCondition{c}, nil
}

// Matches reports whether the condition holds for in; an error says why that could not be told.
func (c *AggregateCondition) Matches(in *Aggregate) (bool, error) { return c.holds(in.key, in) }

// Aggregate is the input of aggregate conditions. Fill it with Set; one goroutine uses it.
type Aggregate struct {
	a   *telemetry.Aggregate
	key Key
}

// Set makes a, which is kept until the next Set, the aggregate that conditions are asked of.
func (in *Aggregate) Set(a *telemetry.Aggregate) { in.a, in.key = a, KeyOfAggregate(a) }

// KeyOfAggregate returns the key of a.
func KeyOfAggregate(a *telemetry.Aggregate) Key {
	return Key{Kind: telemetry.KindChannel, DeviceID: a.DeviceID, DeviceType: a.DeviceType, ChannelKey: a.ChannelKey}
}

// Parent implements CEL's activation: there is none.
func (in *Aggregate) Parent() cel.Activation { return nil }

// ResolveName implements CEL's activation.
func (in *Aggregate) ResolveName(name string) (any, bool) {
	a := in.a
	switch name {
	case "tenant":
		return types.String(a.Tenant), true
	case "deviceId":
		return types.String(a.DeviceID), true
	case "deviceType":
		return types.String(a.DeviceType), true
	case "channelKey":
		return types.String(a.ChannelKey), true
	case "windowStart":
		return types.Timestamp{Time: a.WindowStart.Std()}, true
	case "windowEnd":
		return types.Timestamp{Time: a.WindowStart.Add(time.Duration(a.WindowLength)).Std()}, true
	case "windowSeconds":
		return types.Double(time.Duration(a.WindowLength).Seconds()), true
	case "final":
		return types.Bool(a.Final), true
	case "revision":
		return types.Int(a.Revision), true
	case "count":
		return types.Int(min(a.Count, 1<<62)), true
	}
	v, ok := in.figure(name)
	return types.Double(v), ok
}

func (in *Aggregate) figure(name string) (float64, bool) {
	a := in.a
	switch name {
	case "min":
		return a.Min, true
	case "max":
		return a.Max, true
	case "sum":
		return a.Sum, true
	case "avg":
		return a.Avg(), true
	case "first":
		return a.First, true
	case "last":
		return a.Last, true
	case "p50":
		return a.P50, true
	case "p95":
		return a.P95, true
	case "p99":
		return a.P99, true
	}
	return 0, false
}
