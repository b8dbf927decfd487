package standalone

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// reruns hands each worker a registerer of its own, emptied for each of its runs, so that a worker that is started again may
// register its metrics again.
type reruns struct {
	reg prometheus.Registerer

	mu     sync.Mutex
	byName map[string]*recorder
}

// fresh returns the registerer of worker; what it registered through the one before is taken back.
func (r *reruns) fresh(worker string) prometheus.Registerer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName == nil {
		r.byName = map[string]*recorder{}
	}
	if before := r.byName[worker]; before != nil {
		before.takeBack()
	}
	now := &recorder{Registerer: r.reg}
	r.byName[worker] = now
	return now
}

// recorder remembers what was registered through it.
type recorder struct {
	prometheus.Registerer

	mu   sync.Mutex
	mine []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (r *recorder) Register(c prometheus.Collector) error {
	if err := r.Registerer.Register(c); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mine = append(r.mine, c)
	return nil
}

func (r *recorder) takeBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.mine {
		r.Unregister(c)
	}
	r.mine = nil
}
