package elasticsearch

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// wireTime is a time as documents have it: ISO 8601 in UTC with as many digits as it has.
type wireTime telemetry.Time

// UnmarshalJSON implements json.Unmarshaler.
func (t *wireTime) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' {
		return fmt.Errorf("time %s, want a text", b)
	}
	at, err := time.Parse(time.RFC3339Nano, string(b[1:len(b)-1]))
	if err != nil {
		return err
	}
	*t = wireTime(telemetry.At(at))
	return nil
}
