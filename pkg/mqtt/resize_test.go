package mqtt_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

func TestAReaderAsksBeforeItGrowsAndTellsWhatItGivesBack(t *testing.T) {
	large, err := mqtt.AppendPublish(nil, v3, &mqtt.Publish{Topic: []byte("a"), Payload: make([]byte, 1000)})
	if err != nil {
		t.Fatal(err)
	}
	stream := bytes.Clone(large)
	for range 2000 {
		stream = mqtt.AppendPingreq(stream)
	}
	r := mqtt.NewReader(chunks{bytes.NewReader(stream)}, 64)
	held, most := 0, 0
	r.SetResize(func(more int) error {
		held += more
		most = max(most, held)
		return nil
	})
	for range 2001 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if held != 0 || most != len(large)-64 || mqtt.BufferSize(r) != 64 {
		t.Errorf("%d held at the end, %d at most, the buffer has %d: want 0, %d and 64", held, most, mqtt.BufferSize(r), len(large)-64)
	}

	full := errors.New("no memory")
	r = mqtt.NewReader(bytes.NewReader(large), 64)
	r.SetResize(func(int) error { return full })
	if _, err := r.Next(); !errors.Is(err, full) {
		t.Errorf("%v, want the refusal", err)
	}
	r.SetResize(nil)
	if p, err := r.Next(); err != nil || len(p.Body) < 1000 {
		t.Errorf("after a refusal: %d bytes, %v; want the packet whole", len(p.Body), err)
	}
}

// chunks gives few bytes at a time, so that a buffer is filled often.
type chunks struct{ from *bytes.Reader }

func (c chunks) Read(p []byte) (int, error) { return c.from.Read(p[:min(len(p), 16)]) }
