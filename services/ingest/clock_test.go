package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

// A clock that is not believed moves the message to its arrival, keeps what the device said, and is counted; late and disordered data
// keep their time.
func TestClocksThatCannotBeBelievedAreCountedAndKept(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	r := start(t, setup{now: func() time.Time { return now }})
	said := []string{
		"2099-01-01T00:00:00Z", "1970-01-01T00:00:07Z", // ahead, and never set
		"2026-05-04T12:04:59Z", // within max_skew
		"2026-04-04T12:00:00Z", // a month late
		"2026-05-04T11:59:00Z", "2026-05-04T11:58:00Z",
	}
	var body strings.Builder
	for i, at := range said {
		fmt.Fprintf(&body, `{"MessageType":"Channel","DeviceId":"d","ChannelKey":"c%d","ChannelValue":"1","LocalTimestamp":%q}`+"\n", i, at)
	}
	if status, err := post(context.Background(), client(t), r.url("/v1/messages"), body.String()); err != nil || status != 202 {
		t.Fatal(status, err)
	}
	got := r.messages(bus.Ingested)
	if len(got) != len(said) {
		t.Fatalf("%d messages, want %d", len(got), len(said))
	}
	for i := range got {
		own, err := time.Parse(time.RFC3339, said[i])
		if err != nil {
			t.Fatal(err)
		}
		want := own
		if i < 2 {
			want = now
		}
		if at := time.Unix(0, int64(got[i].EventTime)); !at.Equal(want) {
			t.Errorf("%s became %v, want %v", said[i], at.UTC(), want)
		}
		if i < 2 && !time.Unix(0, int64(got[i].DeviceTime)).Equal(own) {
			t.Errorf("%s: device_time is %v", said[i], got[i].DeviceTime)
		}
	}
	for what, want := range map[string]float64{"clock_ahead": 1, "clock_unset": 1} {
		if n := r.labelled("millrace_ingest_oddities_total", what); n != want {
			t.Errorf("%s is counted %v times, want %v", what, n, want)
		}
	}
}

// labelled returns a metric's value for one value of its label.
func (r *rig) labelled(name, label string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
