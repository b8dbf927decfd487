package standalone

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func counter(name string) prometheus.Collector {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "A test's."})
}

func TestAWorkerThatIsStartedAgainRegistersAgain(t *testing.T) {
	reg := prometheus.NewRegistry()
	if err := reg.Register(counter("of_the_process")); err != nil {
		t.Fatal(err)
	}
	r := reruns{reg: reg}
	for range 3 {
		mine := r.fresh("router")
		for _, name := range []string{"a", "b"} {
			if err := mine.Register(counter(name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := mine.Register(counter("a")); err == nil {
			t.Error("one run registers the same twice")
		}
	}
	if err := r.fresh("alerting").Register(counter("a")); err == nil {
		t.Error("another worker takes what is the router's")
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 3 {
		t.Errorf("%d families (%v), want 3", len(families), err)
	}
}
