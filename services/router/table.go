package router

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/services/router/internal/reference"
)

// table is the configuration made ready: what every share's task reads and none changes.
type table struct {
	topics      []string // bit i of an endpoints mask is topics[i]
	routes      rules.Index[*route]
	fallback    uint64
	homes       uint64 // telemetry, logs and events, of which a message has one
	enrichments []enrichment
	sets        bool // whether any enrichment changes messages
	metrics     *metrics
}

// route is one that is switched on.
type route struct {
	name       string
	endpoints  uint64
	condition  *rules.MessageCondition // nil where the guard says it all
	references bool                    // whether the condition looks at reference data
	routed     prometheus.Counter
	faults     prometheus.Counter
}

func newTable(c Config, sets []*reference.Set, m *metrics) (*table, error) {
	t := &table{topics: c.endpoints(), metrics: m}
	t.fallback = t.mask(c.Fallback)
	t.homes = t.mask(homes())
	for _, r := range c.AllRoutes() {
		if !r.On() {
			continue
		}
		entry := &route{
			name: r.Name, endpoints: t.mask(r.Endpoints),
			routed: m.routed.WithLabelValues(r.Name), faults: m.faults.WithLabelValues(r.Name),
		}
		if r.Condition == "" {
			t.routes.Add(nil, entry)
			continue
		}
		condition, err := rules.CompileMessage(r.Condition)
		if err != nil {
			return nil, fmt.Errorf("route %s: condition: %w", r.Name, err)
		}
		if !condition.Exact() {
			entry.condition = condition
			entry.references = len(condition.References()) > 0
		}
		t.routes.Add(condition.Guard(), entry)
	}
	for i, r := range c.Reference {
		e, err := newEnrichment(r, sets[i])
		if err != nil {
			return nil, err
		}
		t.enrichments = append(t.enrichments, e)
		t.sets = t.sets || len(e.copies) > 0
	}
	return t, nil
}

func (t *table) mask(endpoints []string) (mask uint64) {
	for _, e := range endpoints {
		if i := slices.Index(t.topics, e); i >= 0 {
			mask |= 1 << i
		}
	}
	return mask
}
