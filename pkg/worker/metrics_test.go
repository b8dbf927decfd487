package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/worker"
)

func TestMetricsTellWhatWasReadRefusedSkippedAndWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		reg := prometheus.NewRegistry()
		metrics, err := worker.NewMetrics(reg)
		if err != nil {
			t.Fatal(err)
		}
		w.loop.Metrics = metrics
		w.start()
		w.send("a", "bad", "b")
		settle(time.Second)
		w.next = 2
		w.send("b", "c")
		settle(10 * time.Second)
		got := make(map[string]float64)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				got[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		for name, want := range map[string]float64{
			"millrace_worker_records_total": 5, "millrace_worker_refused_total": 1, "millrace_worker_doubles_total": 1,
			"millrace_worker_rows_total": 3, "millrace_worker_commits_total": 2, "millrace_worker_write_seconds": 2,
			"millrace_worker_lag_seconds": 0, "millrace_worker_behind_records": 0,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
			}
		}
		w.wantStop()
		if st := metrics.Statuses(); len(st) != 0 {
			t.Errorf("status %+v of a worker that ended", st)
		}
	})
}

func TestARegistererTakesOneMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	if _, err := worker.NewMetrics(reg); err != nil {
		t.Fatal(err)
	}
	if _, err := worker.NewMetrics(reg); err == nil {
		t.Fatal("a second one was registered")
	}
}
