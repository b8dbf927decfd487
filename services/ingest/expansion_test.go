package ingest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/services/ingest"
)

// What each message of a body repeats (properties, the device's type) must not make gigabytes of kilobytes.
func TestASmallBodyDoesNotFillTheLog(t *testing.T) {
	const channels = 5000
	body := func(deviceType string) string {
		var b strings.Builder
		b.WriteString(`{"deviceType":"` + deviceType + `"`)
		for i := range channels {
			fmt.Fprintf(&b, `,"c%d":1`, i)
		}
		return b.String() + "}"
	}
	for _, c := range []struct{ name, deviceType, want string }{
		{"long", strings.Repeat("x", 10<<10), "together"},
		{"too long for a message", strings.Repeat("x", 270<<10), "want at most 262144"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, setup{})
			text := body(c.deviceType)
			res, err := client(t).Post(r.url("/v1/devices/d/messages"), "application/json", strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || !strings.Contains(string(answer), c.want) {
				t.Errorf("%d %.300s (%v), want to be told what was not taken", res.StatusCode, answer, err)
			}
			size := 0
			for _, topic := range []string{bus.Ingested, bus.DeadLetters} {
				for _, rec := range r.records(topic) {
					size += len(rec.Value)
				}
			}
			if limit := 10<<20 + 4*len(text); size > limit {
				t.Errorf("a body of %d bytes takes %d in the log, want at most %d", len(text), size, limit)
			}
			if len(r.letters()) == 0 {
				t.Error("no dead letter tells of the messages that were not taken")
			}
		})
	}
}

// A frame of zstd that declares a large window takes that memory before it holds anything.
func TestTheWindowsOfPackedBodiesCountAsMemory(t *testing.T) {
	var packed strings.Builder
	z, err := zstd.NewWriter(&packed, zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{flush(z, `{"x":1}`), flush(z, " "), z.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for most, want := range map[int]int{4 << 20: http.StatusServiceUnavailable, 16 << 20: http.StatusAccepted} {
		r := start(t, setup{cfg: func(c *ingest.Config) { c.Limits.BodiesInflight = config.Bytes(most) }})
		req, err := http.NewRequest(http.MethodPost, r.url("/v1/devices/d/messages"), strings.NewReader(packed.String()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Encoding", "zstd")
		res, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("with %d bytes for all bodies: HTTP %d, want %d", most, res.StatusCode, want)
		}
	}
}

func flush(z *zstd.Encoder, text string) error {
	if _, err := io.WriteString(z, text); err != nil {
		return err
	}
	return z.Flush()
}
