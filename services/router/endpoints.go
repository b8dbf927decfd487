package router

import (
	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/router/internal/reference"
)

// endpointsOf asks the routes.
func (t *task) endpointsOf() (endpoints uint64, err error) {
	failed := false
	key := rules.Key{
		Kind: t.head.Kind, DeviceID: t.head.DeviceID, DeviceType: t.head.DeviceType, ChannelKey: t.head.ChannelKey,
	}
	t.wanted = t.routes.Match(t.wanted[:0], key)
	for _, r := range t.wanted {
		if r.condition != nil {
			held, fault, err := t.ask(r)
			if err != nil {
				return 0, err
			}
			if fault != nil {
				failed = true
				t.metrics.fault(r, &t.head, fault)
			}
			if !held {
				continue
			}
		}
		endpoints = t.join(endpoints, r.endpoints)
		r.routed.Inc()
	}
	if failed || endpoints == 0 {
		endpoints = t.join(endpoints, t.fallback)
		t.metrics.fallback.Inc()
	}
	return endpoints, nil
}

// join adds endpoints to those that a message has, but never a second home: what is in two of telemetry, logs and events
// would be in history twice.
func (t *table) join(endpoints, added uint64) uint64 {
	home := added & t.homes
	added &^= t.homes
	if endpoints&t.homes == 0 {
		added |= home & -home
	}
	return endpoints | added
}

// ask evaluates a condition. fault is the condition's, err the message's.
func (t *task) ask(r *route) (held bool, fault, err error) {
	if !t.ready {
		if err := t.parse(); err != nil {
			return false, nil, err
		}
		t.input.Set(&t.message, t.rows)
		t.ready = true
	}
	if r.references && !t.rowsOf {
		if err := t.findRows(); err != nil {
			return false, nil, err
		}
	}
	held, fault = r.condition.Matches(&t.input)
	return held, fault, nil
}

// parse decodes the message in hand, once.
func (t *task) parse() error {
	if t.parsed {
		return nil
	}
	t.parsed = true
	return telemetry.ParseMessage(t.value, &t.message)
}

// findRows looks up the rows of all reference data, an empty one where there is none.
func (t *task) findRows() error {
	t.rowsOf = true
	for i := range t.enrichments {
		e := &t.enrichments[i]
		row, ok, err := e.row(t)
		if err != nil {
			return err
		}
		if !ok {
			row = reference.Row{}
		}
		t.rows[e.set.Name()] = row
	}
	return nil
}
