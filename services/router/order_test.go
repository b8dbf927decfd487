package router_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/router"
)

// What comes out of order passes as it is, and is counted by how far behind it is, each device by its own clock.
func TestWhatComesOutOfOrderPassesAndIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := router.DefaultConfig()
		log, reg := newLog(cfg), prometheus.NewRegistry()
		at := func(id, device string, seconds int) telemetry.Message {
			m := channel(id, "t", "1", 1)
			m.DeviceID, m.EventTime = device, telemetry.Time(time.Duration(seconds)*time.Second)
			return m
		}
		put(t, log, at("1", "a", 1000), at("2", "a", 1010), at("3", "a", 1005), // 5 s behind
			at("4", "b", 10), at("5", "b", 20), // another device's clock is another
			at("6", "a", 10),   // 1000 s behind
			at("3", "a", 1005), // a repeat: dropped, and not out of order once more
			at("", "a", 1009), at("7", "a", 1010))
		stop := start(t, cfg, log, reg)
		if got := texts(t, log, bus.Telemetry); got != "1 2 3 4 5 6  7" {
			t.Errorf("passed %q", got)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range families {
			if f.GetName() == "millrace_router_out_of_order_seconds" {
				found = true
				h := f.GetMetric()[0].GetHistogram()
				if h.GetSampleCount() != 3 || h.GetSampleSum() != 5+1000+1 || h.GetBucket()[1].GetCumulativeCount() != 2 {
					t.Errorf("%v, want three, of 1, 5 and 1000 s", h)
				}
			}
		}
		if !found {
			t.Error("it is not counted")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
