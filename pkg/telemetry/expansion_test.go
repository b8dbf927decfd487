package telemetry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/telemetry"
)

// What a decoder makes of a body must not be many times the body, whoever wrote it: the edge holds many bodies at once.
func TestASmallBodyDoesNotBecomeALargeOne(t *testing.T) {
	const records = 2000
	long := strings.Repeat("x", 100<<10)
	packOf := func(base string) string {
		var b strings.Builder
		b.WriteString("[" + base)
		for i := range records {
			fmt.Fprintf(&b, `,{"n":"a","v":%d}`, i)
		}
		return b.String() + "]"
	}
	for name, body := range map[string]string{
		"base unit": packOf(`{"bn":"d/","bu":"` + long + `","n":"a","v":1}`),
		"base name": packOf(`{"bn":"d/` + long + `","n":"a","v":1}`),
	} {
		d := telemetry.NewDecoder(telemetry.Options{})
		in := telemetry.Input{Body: []byte(body), DeviceID: "d", IngestTime: 1_700_000_000_000_000_000}
		messages, rejected := d.Decode(nil, in)
		size := 0
		for i := range messages {
			size += len(messages[i].Attributes) + len(messages[i].ChannelKey)
		}
		if size > 2*len(body) || len(rejected) == 0 {
			t.Errorf("%s: a body of %d bytes gives %d messages of %d bytes and %d rejected", name, len(body), len(messages), size, len(rejected))
		}
	}
}

func TestOneObjectCountsAsTheMessagesThatItHolds(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"first":1}` + "\n" + `{"a0":0`)
	for i := range 99 {
		fmt.Fprintf(&b, `,"b%d":1`, i)
	}
	b.WriteString("}\n" + `{"last":1}`)
	for most, want := range map[int][2]int{50: {2, 1}, 101: {101, 1}, 102: {102, 0}} {
		d := telemetry.NewDecoder(telemetry.Options{MessagesMax: most})
		in := telemetry.Input{Body: []byte(b.String()), DeviceID: "d", IngestTime: 1_700_000_000_000_000_000}
		messages, rejected := d.Decode(nil, in)
		if len(messages) != want[0] || len(rejected) != want[1] {
			t.Errorf("at most %d: %d messages and %d rejected, want %v", most, len(messages), len(rejected), want)
		}
	}
}
