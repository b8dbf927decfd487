package ingest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest"
)

func packed(tb testing.TB, name, body string) string {
	tb.Helper()
	var b bytes.Buffer
	var z io.WriteCloser = gzip.NewWriter(&b)
	if name == "zstd" {
		w, err := zstd.NewWriter(&b)
		if err != nil {
			tb.Fatal(err)
		}
		z = w
	}
	if _, err := io.WriteString(z, body); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func TestBodiesGetTheirAnswers(t *testing.T) {
	const one = `{"MessageType":"Channel","DeviceId":"a","ChannelKey":"n","ChannelValue":1}`
	const two = `{"MessageType":"Channel","DeviceId":"b","ChannelKey":"n","ChannelValue":2}`
	const bad = `{"MessageType":"Channel","DeviceId":"b","ChannelValue":3}`
	pretty := "{\n  \"MessageType\": \"Channel\",\n  \"DeviceId\": \"a\",\n  \"ChannelKey\": \"n\",\n  \"ChannelValue\": 1\n}\n"
	big := `{"MessageType":"Channel","DeviceId":"a","ChannelKey":"n","ChannelValue":"` + strings.Repeat("x", 300<<10) + `"}`
	bomb := strings.Repeat(" ", 20<<20)
	for _, c := range []struct {
		name, path, body string
		header           map[string]string
		status           int
		accepted         int
		rejected         []int // their indexes
		letters          int
	}{
		{"one object", "/v1/messages", one, nil, 202, 1, nil, 0},
		{"pretty-printed", "/v1/messages", pretty, nil, 202, 1, nil, 0},
		{"pretty-printed as NDJSON", "/v1/messages", pretty + pretty, map[string]string{"Content-Type": "application/x-ndjson"}, 202, 2, nil, 0},
		{"an array", "/v1/messages", "[" + one + "," + two + "]", nil, 202, 2, nil, 0},
		{"NDJSON", "/v1/messages", one + "\n" + two + "\n", nil, 202, 2, nil, 0},
		{"good and bad", "/v1/messages", one + "\n" + bad + "\n" + two, nil, 202, 2, []int{1}, 1},
		{"all bad", "/v1/messages", bad, nil, 400, 0, []int{0}, 1},
		{"too large for one message", "/v1/messages", big, nil, 413, 0, []int{0}, 1},
		{"one of them too large", "/v1/messages", `[{"DeviceId":"a","x":1,"y":2},` + big + "," + one + "]", nil, 202, 2, []int{1}, 1},
		{"too large and bad", "/v1/messages", big + "\n" + bad, nil, 400, 0, []int{0, 1}, 2},
		{"flat, by path", "/v1/devices/a/messages", `{"x":1,"y":2}`, nil, 202, 1, nil, 0},
		{"flat, no device", "/v1/messages", `{"x":1}`, nil, 400, 0, []int{0}, 1},
		{"SenML", "/v1/messages", `[{"bn":"a/","n":"n","v":1}]`, map[string]string{"Content-Type": "application/senml+json"}, 202, 1, nil, 0},
		{"another device's path", "/v1/devices/b/messages", one, nil, 403, 0, []int{0}, 1},
		{"no device id", "/v1/devices/a%2Fb/messages", `{"x":1}`, nil, 400, -1, nil, 0},
		{"empty", "/v1/messages", "", nil, 400, 0, []int{0}, 1},
		{"gzip", "/v1/messages", packed(t, "gzip", one), map[string]string{"Content-Encoding": "gzip"}, 202, 1, nil, 0},
		{"zstd", "/v1/messages", packed(t, "zstd", one), map[string]string{"Content-Encoding": "zstd"}, 202, 1, nil, 0},
		{"no gzip", "/v1/messages", one, map[string]string{"Content-Encoding": "gzip"}, 400, -1, nil, 0},
		{"half a zstd", "/v1/messages", packed(t, "zstd", one)[:20], map[string]string{"Content-Encoding": "zstd"}, 400, -1, nil, 0},
		{"brotli", "/v1/messages", one, map[string]string{"Content-Encoding": "br"}, 415, -1, nil, 0},
		{"twice packed", "/v1/messages", one, map[string]string{"Content-Encoding": "gzip, gzip"}, 415, -1, nil, 0},
		{"gzip bomb", "/v1/messages", packed(t, "gzip", bomb), map[string]string{"Content-Encoding": "gzip"}, 413, -1, nil, 0},
		{"zstd bomb", "/v1/messages", packed(t, "zstd", bomb), map[string]string{"Content-Encoding": "zstd"}, 413, -1, nil, 0},
		{"too large", "/v1/messages", bomb, nil, 413, -1, nil, 0},
		{"a form", "/v1/messages", one, map[string]string{"Content-Type": "multipart/form-data; boundary=x"}, 415, -1, nil, 0},
		{"what curl says", "/v1/messages", one, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 202, 1, nil, 0},
		{"another site's page", "/v1/messages", one, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, -1, nil, 0},
		{"another charset", "/v1/messages", one, map[string]string{"Content-Type": "application/json; charset=utf-16"}, 415, -1, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, setup{})
			req, err := http.NewRequest(http.MethodPost, r.url(c.path), strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			res, err := client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			var a struct {
				Accepted int
				Rejected []struct {
					Index int
					Error string
				}
				Error string
			}
			if err := json.Unmarshal(b, &a); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			if res.StatusCode != c.status || c.accepted >= 0 && (a.Accepted != c.accepted || len(a.Rejected) != len(c.rejected)) {
				t.Fatalf("%d %s, want %d with %d accepted and %v rejected", res.StatusCode, b, c.status, c.accepted, c.rejected)
			}
			if c.accepted < 0 && a.Error == "" {
				t.Errorf("%s: no error", b)
			}
			for i := range c.rejected {
				if a.Rejected[i].Index != c.rejected[i] || a.Rejected[i].Error == "" {
					t.Errorf("rejected %+v, want %v", a.Rejected, c.rejected)
				}
			}
			messages := max(c.accepted, 0)
			if strings.Contains(c.body, `"x":1,"y":2`) && messages > 0 {
				messages++ // that record is two
			}
			if got := len(r.records(bus.Ingested)); got != messages {
				t.Errorf("%d messages, want %d", got, messages)
			}
			if got := len(r.letters()); got != c.letters {
				t.Errorf("%d dead letters, want %d", got, c.letters)
			}
		})
	}
}

func TestATooLargeRecordOfABatchIsADeadLetterWithItsOwnBytes(t *testing.T) {
	r := start(t, setup{cfg: func(c *ingest.Config) { c.Limits.MessageBytes = 1 << 10 }})
	big := `{"DeviceId":"a","x":"` + strings.Repeat("y", 1<<10) + `"}`
	if status := r.post("", "/v1/messages", `[{"DeviceId":"a","x":1,"y":2},`+big+`,{"DeviceId":"a","x":3}]`); status != http.StatusAccepted {
		t.Errorf("HTTP %d, want 202", status)
	}
	got := r.letters()
	if len(got) != 1 || string(got[0].Payload) != big || !strings.Contains(got[0].Reason, "want at most 1024") {
		t.Errorf("%+v, want the one record that is too large", got)
	}
}

func TestHeadersBecomePropertiesAndTheIdOfARetry(t *testing.T) {
	r := start(t, setup{})
	for range 2 {
		req, err := http.NewRequest(http.MethodPost, r.url("/v1/devices/a/messages"), strings.NewReader(`{"x":1}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "k1")
		req.Header.Set("X-Property-Room", "hall") // the case of a header's name is nobody's choice
		res, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	got := r.messages(bus.Ingested)
	if len(got) != 2 || got[0].MessageID == "" || got[0].MessageID != got[1].MessageID {
		t.Fatalf("%+v, want two with one id", got)
	}
	if want := []telemetry.Property{{Key: "room", Value: "hall"}}; !slices.Equal(got[0].Properties, want) || got[0].Source != "http" {
		t.Errorf("%+v", got[0])
	}
}

func TestALogThatDoesNotConfirmInTimeIs503(t *testing.T) {
	r := start(t, setup{cfg: func(c *ingest.Config) { c.HTTP.AnswerTimeout = 50 * time.Millisecond }})
	open := gate(r)
	if status := r.post("", "/v1/devices/a/messages", `{"x":1}`); status != http.StatusServiceUnavailable {
		t.Errorf("HTTP %d, want 503", status)
	}
	open()
}

func TestOnlyPostIsTaken(t *testing.T) {
	r := start(t, setup{})
	for path, want := range map[string]int{"/v1/messages": 405, "/v1/nothing": 404} {
		res, err := client(t).Get(r.url(path))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, res.StatusCode, want)
		}
	}
}

func TestTheHandlerCanBeMountedElsewhere(t *testing.T) {
	r := start(t, setup{mounted: true})
	if r.addrs["http"] != "" {
		t.Error("it listens all the same")
	}
	req, err := http.NewRequest(http.MethodPost, "/v1/devices/a/messages", strings.NewReader(`{"x":1}`))
	if err != nil {
		t.Fatal(err)
	}
	w := &recorder{header: http.Header{}}
	r.ingest.Handler().ServeHTTP(w, req)
	if w.status != http.StatusAccepted {
		t.Errorf("%d %s", w.status, w.body.String())
	}
}

// recorder is an http.ResponseWriter.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
