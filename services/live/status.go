package live

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/worker"
)

const (
	rateEvery   = time.Second
	rateSamples = 6 // so a rate is the mean of the last five seconds
	router      = "router"
)

// statusAnswer is the body of GET /v1/status.
type statusAnswer struct {
	Version           string            `json:"version"`
	Now               time.Time         `json:"now"`
	Started           *time.Time        `json:"started"`
	Ready             bool              `json:"ready"`
	NotReady          string            `json:"not_ready,omitempty"` // which gates are closed
	MessagesPerSecond float64           `json:"messages_per_second"` // that pass the router of this process
	Workers           []workerAnswer    `json:"workers"`
	Live              liveAnswer        `json:"live"`
	Listeners         map[string]string `json:"listeners"`
	Warnings          []string          `json:"warnings"`
}

type workerAnswer struct {
	Worker           string  `json:"worker"`
	Shares           int     `json:"shares"`
	Records          uint64  `json:"records"`
	RecordsPerSecond float64 `json:"records_per_second"`
	LagSeconds       float64 `json:"lag_seconds"`
	Behind           uint64  `json:"behind"`
	Retrying         string  `json:"retrying,omitempty"`
}

type liveAnswer struct {
	Subscribers int  `json:"subscribers"`
	Stores      bool `json:"stores"` // whether the query API answers here
}

// status answers GET /v1/status.
func (l *Live) status(w http.ResponseWriter, r *http.Request) error {
	p := l.query(r)
	if err := p.done(); err != nil {
		return err
	}
	a := statusAnswer{
		Now: l.deps.Now().UTC(), Ready: true, Workers: []workerAnswer{}, Listeners: map[string]string{}, Warnings: []string{},
		Live: liveAnswer{Subscribers: l.deps.Feed.Subscribers(), Stores: l.deps.Tables != nil},
	}
	if l.deps.Health != nil {
		if err := l.deps.Health.Ready(); err != nil {
			a.Ready, a.NotReady = false, err.Error()
		}
	}
	if l.deps.Status != nil {
		l.fill(&a, l.deps.Status())
	}
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	answerJSON(w, r, http.StatusOK, b)
	return nil
}

func (l *Live) fill(a *statusAnswer, s Status) {
	a.Version = s.Version
	if !s.Started.IsZero() {
		started := s.Started.UTC()
		a.Started = &started
	}
	for _, one := range s.Workers {
		rate := l.rates.of(one.Worker)
		if one.Worker == router {
			a.MessagesPerSecond = rate
		}
		a.Workers = append(a.Workers, workerAnswer{
			Worker: one.Worker, Shares: one.Shares, Records: one.Records, RecordsPerSecond: rate,
			LagSeconds: one.LagSeconds, Behind: one.Behind, Retrying: one.Retrying,
		})
	}
	if s.Listeners != nil {
		a.Listeners = s.Listeners
	}
	if s.Warnings != nil {
		a.Warnings = s.Warnings
	}
}

// measure looks at the workers' counts once a second until ctx ends.
func (l *Live) measure(ctx context.Context) {
	if l.deps.Status == nil {
		return
	}
	tick := time.NewTicker(rateEvery)
	defer tick.Stop()
	for {
		l.rates.take(l.deps.Now(), l.deps.Status().Workers)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// rates remembers the last counts. Safe for concurrent use.
type rates struct {
	mu      sync.Mutex
	samples []sample // oldest first
}

type sample struct {
	at      time.Time
	records map[string]uint64
}

func (r *rates) take(now time.Time, workers []worker.Status) {
	s := sample{at: now, records: make(map[string]uint64, len(workers))}
	for _, w := range workers {
		s.records[w.Worker] += w.Records
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) == rateSamples {
		r.samples = append(r.samples[:0], r.samples[1:]...)
	}
	r.samples = append(r.samples, s)
}

// of returns the records a second of a worker, 0 while that is not known.
func (r *rates) of(name string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) < 2 {
		return 0
	}
	first, last := r.samples[0], r.samples[len(r.samples)-1]
	before, known := first.records[name]
	after := last.records[name]
	passed := last.at.Sub(first.at).Seconds()
	if !known || after < before || passed <= 0 {
		return 0
	}
	return float64(after-before) / passed
}
