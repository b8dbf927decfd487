package router

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/router/internal/reference"
)

// match says which text of a message finds its row.
type match struct {
	field func(h *telemetry.Header) string  // nil where the header does not have it
	whole func(m *telemetry.Message) string // set where field is nil
}

// newMatch reads Reference.Match.
func newMatch(name string) (match, error) {
	switch name {
	case "", "deviceId":
		return match{field: func(h *telemetry.Header) string { return h.DeviceID }}, nil
	case "deviceType":
		return match{field: func(h *telemetry.Header) string { return h.DeviceType }}, nil
	case "channelKey":
		return match{field: func(h *telemetry.Header) string { return h.ChannelKey }}, nil
	case "tenant":
		return match{field: func(h *telemetry.Header) string { return h.Tenant }}, nil
	case "channelType":
		return match{whole: func(m *telemetry.Message) string { return m.ChannelType }}, nil
	case "source":
		return match{whole: func(m *telemetry.Message) string { return m.Source }}, nil
	case "credential":
		return match{whole: func(m *telemetry.Message) string { return m.Credential }}, nil
	}
	if property, ok := strings.CutPrefix(name, "properties."); ok && property != "" {
		return match{whole: func(m *telemetry.Message) string {
			value, _ := m.Property(property)
			return value
		}}, nil
	}
	if attribute, ok := strings.CutPrefix(name, "attributes."); ok && attribute != "" {
		return match{whole: func(m *telemetry.Message) string { return attributeOf(m, attribute) }}, nil
	}
	return match{}, fmt.Errorf("%q, want deviceId, deviceType, channelKey, channelType, tenant, source, credential, "+
		"properties.<name> or attributes.<name>", name)
}

func attributeOf(m *telemetry.Message, name string) string {
	var attributes map[string]any
	if len(m.Attributes) == 0 || json.Unmarshal(m.Attributes, &attributes) != nil {
		return ""
	}
	text, _ := reference.Text(attributes[name])
	return text
}

// enrichment is one set of reference data as a task uses it.
type enrichment struct {
	set    *reference.Set
	match  match
	copies []copied
}

// copied is one line of Reference.Set.
type copied struct {
	property string // "" is the device type
	column   string
}

func newEnrichment(r Reference, set *reference.Set) (enrichment, error) {
	by, err := newMatch(r.Match)
	if err != nil {
		return enrichment{}, fmt.Errorf("reference data %s: match: %w", r.Name, err)
	}
	e := enrichment{set: set, match: by}
	for _, target := range slices.Sorted(maps.Keys(r.Set)) { // always in the same order, so that the bytes are too
		property, _ := strings.CutPrefix(target, "properties.")
		if target == "deviceType" {
			property = ""
		}
		e.copies = append(e.copies, copied{property, r.Set[target]})
	}
	return e, nil
}

// row finds the row of the message that t has in hand.
func (e *enrichment) row(t *task) (reference.Row, bool, error) {
	table := e.set.Current()
	if e.match.field != nil {
		row, ok := table.Row(e.match.field(&t.head))
		return row, ok, nil
	}
	if err := t.parse(); err != nil {
		return nil, false, err
	}
	row, ok := table.Row(e.match.whole(&t.message))
	return row, ok, nil
}

// apply copies the row's columns into the message, and reports whether that changed anything. A column that is missing, null or
// no plain value leaves the message as it is.
func (e *enrichment) apply(m *telemetry.Message, row reference.Row) bool {
	changed := false
	for _, c := range e.copies {
		text, ok := reference.Text(row[c.column])
		if !ok {
			continue
		}
		if c.property == "" {
			changed = changed || m.DeviceType != text
			m.DeviceType = text
			continue
		}
		if value, has := m.Property(c.property); has && value == text {
			continue
		}
		m.Properties = slices.DeleteFunc(m.Properties, func(p telemetry.Property) bool { return p.Key == c.property })
		m.Properties = append(m.Properties, telemetry.Property{Key: c.property, Value: text})
		changed = true
	}
	return changed
}
