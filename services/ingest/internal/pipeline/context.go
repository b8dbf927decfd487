package pipeline

import (
	"encoding/json"

	"github.com/millrace/millrace/pkg/telemetry"
)

// contextOf returns what it takes beside the payload to read a body again, for its dead letter; "" where the payload says all.
func contextOf(in *telemetry.Input) string {
	if in.ChannelKey == "" && in.ContentType == "" && len(in.Properties) == 0 {
		return ""
	}
	c := telemetry.LetterContext{ChannelKey: in.ChannelKey, ContentType: in.ContentType}
	if len(in.Properties) > 0 {
		c.Properties = make(map[string]string, len(in.Properties))
		for _, p := range in.Properties {
			c.Properties[p.Key] = p.Value
		}
	}
	b, err := json.Marshal(c)
	if err != nil { // not reached: texts always marshal
		return ""
	}
	return string(b)
}
