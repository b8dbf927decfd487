package rules

import (
	"bytes"
	"encoding/json"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/millrace/millrace/pkg/telemetry"
)

// MessageVariables lists what a condition over a message may use.
func MessageVariables() []Variable {
	texts := cel.MapType(cel.StringType, cel.StringType)
	named := cel.MapType(cel.StringType, cel.DynType)
	vars := []Variable{
		{Name: "kind", cel: cel.StringType, Doc: "channel, log, event, session, or unknown"},
		{Name: "tenant", cel: cel.StringType, Doc: "the tenant, default where none is configured"},
		{Name: "deviceId", cel: cel.StringType, Doc: "the device"},
		{Name: "deviceType", cel: cel.StringType, Doc: "the device's type, empty where it is not known"},
		{Name: "channelKey", cel: cel.StringType, Doc: "the channel, empty for logs"},
		{Name: "channelType", cel: cel.StringType, Doc: "number, boolean, text, json, or what the device said"},
		{Name: "channelValue", cel: cel.StringType, Doc: "the value as the device wrote it"},
		{Name: "value", cel: cel.DoubleType, Doc: "the number in channelValue, true being 1 and false 0; where there is none, using it is an error"},
		{Name: "hasValue", cel: cel.BoolType, Doc: "whether there is such a number"},
		{Name: "severity", cel: cel.StringType, Doc: "trace, debug, info, warning, error or critical; empty for what is no log"},
		{Name: "text", cel: cel.StringType, Doc: "the line of a log"},
		{Name: "logSource", cel: cel.StringType, Doc: "the part of the device that wrote the log line"},
		{Name: "json", cel: cel.DynType, Doc: "channelValue where that is a JSON object or array, else attributes; an empty object where neither is"},
		{Name: "attributes", cel: cel.DynType, Doc: "the fields of the body that its format knows no place for"},
		{Name: "properties", cel: texts, Doc: "the application properties that came beside the body; of equal keys the last"},
		{Name: "reference", cel: named, Doc: "reference data: reference.<name>.<column>; a row that is missing is an empty object"},
		{Name: "messageId", cel: cel.StringType, Doc: "the device's id of the message, or a hash of its bytes"},
		{Name: "source", cel: cel.StringType, Doc: "mqtt or http"},
		{Name: "codec", cel: cel.StringType, Doc: "name of the codec that read the body"},
		{Name: "eventTime", cel: cel.TimestampType, Doc: "when it happened"},
		{Name: "ingestTime", cel: cel.TimestampType, Doc: "when Millrace took it"},
	}
	return typed(vars)
}

// typed fills the names of types.
func typed(vars []Variable) []Variable {
	for i := range vars {
		vars[i].Type = cel.FormatCELType(vars[i].cel)
	}
	return vars
}

// MessageCondition is a condition over one message. Safe for concurrent use.
type MessageCondition struct{ condition }

// CompileMessage reads expr. Its errors name line and column, see SyntaxError; several are joined.
func CompileMessage(expr string) (*MessageCondition, error) {
	c, err := compile(expr, MessageVariables())
	if err != nil {
		return nil, err
	}
	return &MessageCondition{c}, nil
}

// Matches reports whether the condition holds for in. An error says why it could not be told, such as a value that is absent
// or a JSON member that is not there; it never means that the guard did not match, which is false.
func (c *MessageCondition) Matches(in *Message) (bool, error) { return c.holds(in.key, in) }

// Message is the input of message conditions: one message, whose JSON is parsed at most once, and only if a condition asks.
// Fill it with Set for each message; one goroutine uses it.
type Message struct {
	m         *telemetry.Message
	key       Key
	reference map[string]any

	body, attributes ref.Val // nil until asked for
}

// Set makes m the message that conditions are asked of, and reference what they find under that name: for each set of
// reference data its row, a map[string]any or map[string]string. Both are kept until the next Set and not changed. Every name that
// a condition may use should be there, with an empty map where the set has no row.
func (in *Message) Set(m *telemetry.Message, reference map[string]any) {
	*in = Message{m: m, key: KeyOf(m), reference: reference}
}

// Parent implements CEL's activation: there is none.
func (in *Message) Parent() cel.Activation { return nil }

// ResolveName implements CEL's activation.
func (in *Message) ResolveName(name string) (any, bool) {
	m := in.m
	switch name {
	case "kind":
		return types.String(kindName(m.Kind)), true
	case "tenant":
		return types.String(m.Tenant), true
	case "deviceId":
		return types.String(m.DeviceID), true
	case "deviceType":
		return types.String(m.DeviceType), true
	case "channelKey":
		return types.String(m.ChannelKey), true
	case "channelType":
		return types.String(m.ChannelType), true
	case "channelValue":
		return types.String(m.ChannelValue), true
	case "value":
		if !m.HasValue {
			return types.NewErr("value: the message has no number; ask hasValue first"), true
		}
		return types.Double(m.Value), true
	case "hasValue":
		return types.Bool(m.HasValue), true
	case "severity":
		return types.String(m.Severity.String()), true
	case "text":
		return types.String(m.Text), true
	case "logSource":
		return types.String(m.LogSource), true
	}
	return in.resolveRest(name)
}

func (in *Message) resolveRest(name string) (any, bool) {
	m := in.m
	switch name {
	case "json":
		if in.body == nil {
			in.body = in.parseBody()
		}
		return in.body, true
	case "attributes":
		return in.parseAttributes(), true
	case "properties":
		return in.properties(), true
	case "reference":
		if in.reference == nil {
			return map[string]any{}, true
		}
		return in.reference, true
	case "messageId":
		return types.String(m.MessageID), true
	case "source":
		return types.String(m.Source), true
	case "codec":
		return types.String(m.Codec), true
	case "eventTime":
		return types.Timestamp{Time: m.EventTime.Std()}, true
	case "ingestTime":
		return types.Timestamp{Time: m.IngestTime.Std()}, true
	}
	return nil, false
}

func (in *Message) parseBody() ref.Val {
	if v, ok := parseJSON(in.m.ChannelValue); ok {
		return v
	}
	return in.parseAttributes()
}

func (in *Message) parseAttributes() ref.Val {
	if in.attributes == nil {
		v, ok := parseJSON(in.m.Attributes)
		if !ok {
			v = types.DefaultTypeAdapter.NativeToValue(map[string]any{})
		}
		in.attributes = v
	}
	return in.attributes
}

func (in *Message) properties() map[string]string {
	properties := make(map[string]string, len(in.m.Properties))
	for _, p := range in.m.Properties {
		properties[p.Key] = p.Value
	}
	return properties
}

// parseJSON reads an object or an array; ok is false of anything else. The edge has bounded size and depth.
func parseJSON(b []byte) (v ref.Val, ok bool) {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) == 0 || b[0] != '{' && b[0] != '[' {
		return nil, false
	}
	var value any
	if err := json.Unmarshal(b, &value); err != nil {
		return nil, false
	}
	return types.DefaultTypeAdapter.NativeToValue(value), true
}
