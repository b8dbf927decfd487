package live

import (
	"net/http"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

func devicesListing() *listing {
	return &listing{
		name: "devices", table: store.TableDevices,
		columns: []column{
			{"tenant", plain},
			{"device_id", plain},
			{"device_type", plain},
			{"connected", number},
			{"connected_since", moment},
			{"first_seen", moment},
			{"last_seen", moment},
			{"disconnected_at", moment},
			{"disconnect_reason", plain},
			{"address", plain},
			{"client_id", plain},
			{"protocol", plain},
			{"credential", plain},
		},
		order: []column{{"tenant", plain}, {"device_id", plain}},
	}
}

// devices answers GET /v1/devices.
func (l *Live) devices(w http.ResponseWriter, r *http.Request) error {
	p, c := l.query(r), &where{}
	c.equal("tenant", p.text("tenant"))
	c.equal("device_id", p.text("device"))
	c.equal("device_type", p.text("type"))
	switch p.oneOf("connected", "true", "false") {
	case "true":
		c.add(store.Equal, true, "connected")
	case "false":
		c.add(store.Equal, false, "connected")
	}
	return l.list(w, r, p, devicesListing(), c)
}

func stateColumns() []column {
	return []column{
		{"tenant", plain},
		{"device_id", plain},
		{"device_type", plain},
		{"channel_key", plain},
		{"channel_type", plain},
		{"channel_value", plain},
		{"value", number},
		{"event_time", moment},
		{"ingest_time", moment},
		{"message_id", plain},
	}
}

func stateListing() *listing {
	return &listing{
		name: "state", table: store.TableState, columns: stateColumns(),
		order: []column{{"tenant", plain}, {"device_id", plain}, {"channel_key", plain}},
	}
}

// state answers GET /v1/state, of all devices.
func (l *Live) state(w http.ResponseWriter, r *http.Request) error {
	p, c := l.query(r), &where{}
	c.equal("tenant", p.text("tenant"))
	c.equal("device_id", p.text("device"))
	c.equal("device_type", p.text("type"))
	c.equal("channel_key", p.text("channel"))
	return l.list(w, r, p, stateListing(), c)
}

// deviceState answers GET /v1/devices/{id}/state.
func (l *Live) deviceState(w http.ResponseWriter, r *http.Request) error {
	id, err := deviceInPath(r)
	if err != nil {
		return err
	}
	p, c := l.query(r), &where{}
	c.equal("device_id", id)
	c.equal("tenant", p.text("tenant"))
	c.equal("channel_key", p.text("channel"))
	return l.list(w, r, p, stateListing(), c)
}

// messages answers GET /v1/devices/{id}/messages.
func (l *Live) messages(w http.ResponseWriter, r *http.Request) error {
	id, err := deviceInPath(r)
	if err != nil {
		return err
	}
	p, c := l.query(r), &where{}
	c.equal("device_id", id)
	c.equal("tenant", p.text("tenant"))
	c.equal("channel_key", p.text("channel"))
	c.equal("kind", p.oneOf("kind", "channel", "event"))
	c.between("event_time", p)
	return l.list(w, r, p, &listing{
		name: "messages", table: store.TableMessages,
		columns: append(stateColumns(), []column{
			{"kind", plain},
			{"device_time", moment},
			{"properties", embedded},
			{"attributes", embedded},
			{"source", plain},
			{"credential", plain},
			{"codec", plain},
			{"origin_partition", whole},
			{"origin_position", whole},
		}...),
		order:      []column{{"event_time", moment}, {"origin_partition", whole}, {"origin_position", whole}},
		descending: true,
	}, c)
}

// aggregates answers GET /v1/aggregates.
func (l *Live) aggregates(w http.ResponseWriter, r *http.Request) error {
	p, c := l.query(r), &where{}
	c.equal("tenant", p.text("tenant"))
	c.equal("device_id", p.text("device"))
	c.equal("channel_key", p.text("channel"))
	if length, ok := p.window("window"); ok {
		c.add(store.Equal, length, "window_length_ns")
	}
	c.between("window_start", p)
	return l.list(w, r, p, &listing{
		name: "aggregates", table: store.TableAggregates,
		columns: []column{
			{"tenant", plain},
			{"device_id", plain},
			{"device_type", plain},
			{"channel_key", plain},
			{"window_start", moment},
			{"window_seconds", number},
			{"count", whole},
			{"min", number},
			{"max", number},
			{"sum", number},
			{"avg", number},
			{"first", number},
			{"last", number},
			{"p50", number},
			{"p95", number},
			{"p99", number},
			{"revision", whole},
		},
		order:      []column{{"window_start", moment}, {"window_length_ns", whole}, {"tenant", plain}, {"device_id", plain}, {"channel_key", plain}},
		descending: true,
	}, c)
}

// logs answers GET /v1/logs.
func (l *Live) logs(w http.ResponseWriter, r *http.Request) error {
	p, c := l.query(r), &where{}
	c.equal("tenant", p.text("tenant"))
	c.equal("device_id", p.text("device"))
	c.equal("source", p.text("source"))
	if text := p.text("severity"); text != "" {
		least, ok := telemetry.ParseSeverity(text)
		if !ok {
			p.fault("severity", `want trace, debug, info, warning, error or critical: those lines, and graver ones`)
		}
		var names []string
		for s := least; s <= telemetry.SeverityCritical; s++ {
			names = append(names, s.Name())
		}
		c.add(store.In, names, "severity")
	}
	if q := p.text("q"); q != "" {
		c.add(store.Contains, q, "message")
	}
	c.between("event_time", p)
	return l.list(w, r, p, &listing{
		name: "logs", table: store.TableLogs,
		columns: []column{
			{"tenant", plain},
			{"device_id", plain},
			{"device_type", plain},
			{"severity", plain},
			{"source", plain},
			{"message", plain},
			{"event_time", moment},
			{"ingest_time", moment},
			{"message_id", plain},
		},
		order:      []column{{"event_time", moment}, {"origin_partition", whole}, {"origin_position", whole}},
		descending: true,
	}, c)
}
