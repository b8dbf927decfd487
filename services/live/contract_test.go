package live_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/live"
)

type object = map[string]any

// contract is schemas/openapi.yaml.
type contract struct{ doc object }

func readContract(t *testing.T) contract {
	t.Helper()
	b, err := schemas.Read("openapi.yaml")
	must(t, err)
	var c contract
	must(t, yaml.Unmarshal(b, &c.doc))
	return c
}

func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for i, name := range path {
		m, ok := v.(object)
		if !ok || m[name] == nil {
			t.Fatalf("the contract has no %s", strings.Join(path[:i+1], " / "))
		}
		v = m[name]
	}
	return v
}

// TestTheContractAndTheHandlersHaveTheSamePaths asks for each path and method of one side at the other.
func TestTheContractAndTheHandlersHaveTheSamePaths(t *testing.T) {
	var described []string
	paths, _ := at(t, readContract(t).doc, "paths").(object)
	for path, item := range paths {
		for method, operation := range item.(object) {
			if _, elsewhere := operation.(object)["x-served-by"]; !elsewhere {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(described)
	served := live.Routes()
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described %q\nserved    %q", described, served)
	}
}

// TestParametersAreAsTheContractSays gives each parameter of the contract to its handler, which must know it, and no other.
func TestParametersAreAsTheContractSays(t *testing.T) {
	f, c := start(t, nil), readContract(t)
	paths, _ := at(t, c.doc, "paths").(object)
	for path, item := range paths {
		operation, ok := item.(object)["get"].(object)
		if !ok || operation["x-served-by"] != nil || path == "/v1/openapi.yaml" || path == "/v1/asyncapi.yaml" {
			continue
		}
		var want []string
		list, _ := operation["parameters"].([]any)
		for _, p := range list {
			if p := c.resolve(t, p.(object)); p["in"] == "query" {
				want = append(want, p["name"].(string))
			}
		}
		slices.Sort(want)
		code, _, body := f.ask(t, "GET", strings.ReplaceAll(path, "{id}", "x")+"?surely_not=1", "")
		_, names, _ := strings.Cut(body, "want one of ")
		got := strings.FieldsFunc(names, func(r rune) bool { return strings.ContainsRune(` ,"}`+"\n", r) })
		slices.Sort(got)
		if code != http.StatusBadRequest || !slices.Equal(got, want) {
			t.Errorf("%s: %d, knows %v, described %v", path, code, got, want)
		}
	}
}

// TestAnswersAreAsTheContractSays holds answers of every resource and event against their schemas.
func TestAnswersAreAsTheContractSays(t *testing.T) {
	f, c := start(t, nil), readContract(t)
	f.fill(t)
	for _, a := range []struct{ method, path, like, body string }{
		{"GET", "/v1/devices", "/v1/devices", ""},
		{"GET", "/v1/devices?limit=1", "/v1/devices", ""},
		{"GET", "/v1/devices/homecontroller/state", "/v1/devices/{id}/state", ""},
		{"GET", "/v1/state", "/v1/state", ""},
		{"GET", "/v1/devices/thermostat-1/messages", "/v1/devices/{id}/messages", ""},
		{"GET", "/v1/aggregates", "/v1/aggregates", ""},
		{"GET", "/v1/alarms", "/v1/alarms", ""},
		{"GET", "/v1/logs", "/v1/logs", ""},
		{"GET", "/v1/logs?limit=x", "/v1/logs", ""},
		{"GET", "/v1/dead-letters", "/v1/dead-letters", ""},
		{"GET", "/v1/dead-letters/0.1.0", "/v1/dead-letters/{id}", ""},
		{"GET", "/v1/dead-letters/0.99.0", "/v1/dead-letters/{id}", ""},
		{"POST", "/v1/dead-letters/0.1.0/replay", "/v1/dead-letters/{id}/replay", ""},
		{"POST", "/v1/dead-letters/0.1.0/replay", "/v1/dead-letters/{id}/replay", `{"payload":"{\"DeviceId\":\"d\",\"n\":1}","dry_run":true}`},
		{"GET", "/v1/status", "/v1/status", ""},
		{"GET", "/v1/audit?from=2026-03-01T12:00:00Z&to=2026-03-01T13:00:00Z", "/v1/audit", ""},
		{"GET", "/v1/audit?from=2026-03-01T12:00:00Z", "/v1/audit", ""},
		{"POST", "/v1/sql", "/v1/sql", "SELECT * FROM device_state"},
		{"POST", "/v1/sql", "/v1/sql", "SELECT"},
		{"POST", "/v1/alarms/none/ack", "/v1/alarms/{id}/ack", ""},
	} {
		t.Run(a.method+" "+a.path+" "+a.body, func(t *testing.T) {
			code, _, body := f.ask(t, a.method, a.path, a.body)
			answer := at(t, c.doc, "paths", a.like, strings.ToLower(a.method), "responses", fmt.Sprint(code)).(object)
			schema := at(t, c.resolve(t, answer), "content", "application/json", "schema")
			c.check(t, body, schema.(object))
		})
	}
	s := f.follow(t, "")
	f.say(t, "dev1", "n", `{"a":1}`)
	now := telemetry.At(time.Now())
	f.append(t, bus.Logs, telemetry.AppendMessage(nil, &telemetry.Message{Tenant: "default", DeviceID: "d", Kind: telemetry.KindLog, Severity: telemetry.SeverityError, EventTime: now, IngestTime: now}))
	f.append(t, bus.Aggregates, telemetry.AppendAggregate(nil, &telemetry.Aggregate{DeviceID: "d", ChannelKey: "c", WindowStart: now, WindowLength: 1e9, Count: 1}))
	f.append(t, bus.Alarms, telemetry.AppendAlarm(nil, &telemetry.Alarm{AlarmID: "a", Severity: "error", State: telemetry.AlarmRaised, RaisedAt: now, Detail: []byte("{}")}))
	for range 4 {
		e, ok := s.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		schema := map[string]string{"state": "StateEvent", "logs": "LogEvent", "aggregates": "AggregateEvent", "alarms": "AlarmEvent"}[e.name]
		c.check(t, e.data, at(t, c.doc, "components", "schemas", schema).(object))
	}
}

func (f *fixture) append(t *testing.T, topic string, value []byte) {
	t.Helper()
	must(t, f.log.Append(t.Context(), bus.PartitionID{Topic: topic}, []bus.Record{{Value: value}}))
}

// resolve follows a reference.
func (c contract) resolve(t *testing.T, v object) object {
	t.Helper()
	ref, ok := v["$ref"].(string)
	if !ok {
		return v
	}
	return c.resolve(t, at(t, c.doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(object))
}

func (c contract) check(t *testing.T, text string, schema object) {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for _, fault := range c.faults(t, "answer", v, schema) {
		t.Error(fault)
	}
}

// faults holds v against the part of JSON Schema that the contract uses.
func (c contract) faults(t *testing.T, where string, v any, schema object) (faults []string) {
	t.Helper()
	schema = c.resolve(t, schema)
	fault := func(format string, args ...any) { faults = append(faults, where+": "+fmt.Sprintf(format, args...)) }
	if any, ok := schema["anyOf"].([]any); ok {
		for _, s := range any {
			if len(c.faults(t, where, v, s.(object))) == 0 {
				return nil
			}
		}
		fault("%v is none of the %d it may be", v, len(any))
	}
	if types := schema["type"]; types != nil {
		allowed, many := types.([]any)
		if !many {
			allowed = []any{types}
		}
		if !slices.ContainsFunc(allowed, func(name any) bool { return isType(v, name.(string)) }) {
			fault("%v, want %v", v, allowed)
			return faults
		}
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		fault("%v, want one of %v", v, enum)
	}
	switch v := v.(type) {
	case string:
		if schema["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339Nano, v); err != nil || !strings.HasSuffix(v, "Z") {
				fault("%q, want a time in UTC", v)
			}
		}
	case []any:
		if items, ok := schema["items"].(object); ok {
			for i, e := range v {
				faults = append(faults, c.faults(t, fmt.Sprintf("%s[%d]", where, i), e, items)...)
			}
		}
	case object:
		faults = append(faults, c.memberFaults(t, where, v, schema)...)
	}
	return faults
}

func (c contract) memberFaults(t *testing.T, where string, v, schema object) (faults []string) {
	t.Helper()
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			faults = append(faults, fmt.Sprintf("%s: %s is missing", where, name))
		}
	}
	properties, _ := schema["properties"].(object)
	for name, member := range v {
		s, known := properties[name].(object)
		switch {
		case known:
			faults = append(faults, c.faults(t, where+"."+name, member, s)...)
		case schema["additionalProperties"] == false:
			faults = append(faults, fmt.Sprintf("%s: %s is not described", where, name))
		}
	}
	return faults
}

func isType(v any, name string) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case []any:
		return name == "array"
	case object:
		return name == "object"
	case json.Number:
		return name == "number" || name == "integer" && !strings.ContainsAny(v.String(), ".eE")
	}
	return false
}
