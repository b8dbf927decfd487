package live_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/services/live"
)

func TestResourcesAnswerWithTheColumnsOfTheirTables(t *testing.T) {
	f := start(t, nil)
	f.fill(t)
	for _, c := range []struct {
		path, member string
		rows         int
		first        string // of the first row, as JSON members
	}{
		{"/v1/devices", "devices", 2, `"device_id":"homecontroller","device_type":"Pi","connected":true,"connected_since":"2026-03-01T12:00:00.4808507Z"`},
		{"/v1/devices?connected=true", "devices", 1, `"protocol":"mqtt5"`},
		{"/v1/devices?type=LabThermostat_v4", "devices", 1, `"device_id":"thermostat-1","device_type":"LabThermostat_v4","connected":null`},
		{"/v1/state", "state", 2, `"channel_key":"status@secvest"`},
		{"/v1/devices/homecontroller/state", "state", 1, `"channel_value":"{\"Partitions\":[{\"id\":\"1\",\"state\":\"set\"}]}","json":{"Partitions":[{"id":"1","state":"set"}]},"value":null,"event_time":"2026-03-01T12:00:00.4808507Z"`},
		{"/v1/devices/thermostat-1/messages", "messages", 25, `"event_time":"2026-03-01T12:00:24.4808507Z"`},
		{"/v1/devices/thermostat-1/messages?limit=1", "messages", 1, `"properties":{"a":"b"},"attributes":{"x":1}`},
		{"/v1/devices/thermostat-1/messages?from=2026-03-01T12:00:01.4808507Z&to=2026-03-01T12:00:03.4808507Z", "messages", 2, `"event_time":"2026-03-01T12:00:02.4808507Z"`},
		{"/v1/devices/thermostat-1/messages?channel=other", "messages", 0, ""},
		{"/v1/devices/thermostat-1/messages?from=-1s", "messages", 0, ""},
		{"/v1/aggregates?device=thermostat-1&window=10s", "aggregates", 1, `"window_seconds":10,"count":2,"min":1,"max":3,"sum":4,"avg":2`},
		{"/v1/aggregates?window=60", "aggregates", 1, `"window_seconds":60`},
		{"/v1/alarms", "alarms", 2, `"alarm_id":"a2"`},
		{"/v1/alarms?state=open", "alarms", 1, `"raised_at":"2026-03-01T12:00:00.4808507Z","acked_at":null,"cleared_at":null,"detail":{"n":1},"revision":1`},
		{"/v1/alarms?state=cleared&severity=Warning", "alarms", 1, `"detail":null`},
		{"/v1/logs", "logs", 4, `"severity":"Error","source":"","message":"storage is full"`},
		{"/v1/logs?severity=warning", "logs", 2, `"severity":"Error"`},
		{"/v1/logs?q=100%25", "logs", 1, `"message":"Zone 100% open"`},
		{"/v1/logs?q=%25", "logs", 1, `"message":"Zone 100% open"`},
		{"/v1/logs?q=SLOW&device=homecontroller", "logs", 1, `"message":"slow answer"`},
		{"/v1/dead-letters", "dead_letters", 2, `"reason":"not JSON"`},
		{"/v1/dead-letters?q=%22a%22", "dead_letters", 1, `"payload":"{\"a\":"`},
	} {
		t.Run(c.path, func(t *testing.T) {
			rows, _ := f.get(t, c.path, c.member)
			_, _, body := f.ask(t, "GET", c.path, "")
			if len(rows) != c.rows || !strings.Contains(body, c.first) {
				t.Errorf("%d rows, want %d with %s:\n%s", len(rows), c.rows, c.first, body)
			}
		})
	}
}

func TestACursorGoesOnWithoutGapOrDouble(t *testing.T) {
	f := start(t, nil)
	f.fill(t)
	for _, c := range []struct{ path, member, key string }{
		{"/v1/devices/thermostat-1/messages?limit=4", "messages", "event_time"},
		{"/v1/devices?limit=1", "devices", "device_id"},
		{"/v1/logs?limit=3", "logs", "event_time"},
		{"/v1/dead-letters?limit=1", "dead_letters", "payload"},
		{"/v1/aggregates?limit=1", "aggregates", "window_seconds"},
		{"/v1/alarms?limit=1", "alarms", "alarm_id"},
		{"/v1/state?limit=1", "state", "device_id"},
	} {
		t.Run(c.member, func(t *testing.T) {
			whole, _ := f.get(t, strings.SplitN(c.path, "limit", 2)[0]+"limit=100", c.member)
			var parts []string
			for next := "start"; next != ""; {
				path := c.path
				if next != "start" {
					path += "&cursor=" + next
				}
				var rows []map[string]any
				rows, next = f.get(t, path, c.member)
				for _, r := range rows {
					parts = append(parts, fmt.Sprint(r[c.key]))
				}
			}
			var want []string
			for _, r := range whole {
				want = append(want, fmt.Sprint(r[c.key]))
			}
			if strings.Join(parts, " ") != strings.Join(want, " ") {
				t.Errorf("pages %v\nwhole %v", parts, want)
			}
		})
	}
}

func TestBadParametersAreNamed(t *testing.T) {
	f := start(t, nil)
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/v1/logs?severty=error", "", 400, `"severty": unknown, want one of tenant, device, source, severity`},
		{"GET", "/v1/logs?severity=loud&limit=0", "", 400, `"limit": "0", want 1 to 10000; "severity": want trace`},
		{"GET", "/v1/logs?from=yesterday", "", 400, `"from": "yesterday", want RFC 3339`},
		{"GET", "/v1/logs?from=2026-01-01T00:00:00Z&from=2026-01-01T00:00:00Z", "", 400, `"from": given more than once`},
		{"GET", "/v1/logs?cursor=abc", "", 400, `"cursor": not one that an earlier answer`},
		{"GET", "/v1/logs?q=%zz", "", 400, `the query cannot be read`},
		{"GET", "/v1/alarms?state=loud", "", 400, `"state": "loud", want raised, acknowledged, cleared, open`},
		{"GET", "/v1/aggregates?window=soon", "", 400, `"window": "soon", want a duration`},
		{"GET", "/v1/devices/a%2Fb/state", "", 400, `want no '/'`},
		{"GET", "/v1/devices?connected=maybe", "", 400, `want true, false`},
		{"GET", "/v1/live?streams=stat", "", 400, `streams: unknown stream \"stat\"`},
		{"GET", "/v1/live?after=xyz", "", 400, `Last-Event-ID or after: not a resume token`},
		{"POST", "/v1/alarms/nobody/ack", "", 404, `there is no alarm \"nobody\"`},
		{"POST", "/v1/alarms/nobody/ack", `{"who":1}`, 400, `unknown field`},
		{"POST", "/v1/alarms/nobody/ack", strings.Repeat(" ", 20<<10), 413, `more than 16384 bytes`},
		{"GET", "/v1/nothing", "", 404, ``},
		{"DELETE", "/v1/alarms", "", 405, ``},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			code, _, body := f.ask(t, c.method, c.path, c.body)
			if code != c.code || !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), strings.ReplaceAll(c.want, `\"`, `"`)) {
				t.Errorf("%d %s\nwant %d %s", code, body, c.code, c.want)
			}
		})
	}
}

func TestSQL(t *testing.T) {
	f := start(t, func(c *live.Config, _ *live.Deps) { c.Query.MaxRows = 5 })
	f.fill(t)
	const text, asJSON = "text/plain", "application/json"
	for _, c := range []struct {
		name, contentType, accept, body string
		code                            int
		want, truncated                 string
	}{
		{"text", text, "", "SELECT 1 AS a", 200, `"rows":[` + "\n[1]]", "false"},
		{"what curl -d says", "application/x-www-form-urlencoded", "", "SELECT 1 AS a", 200, `[1]`, "false"},
		{"JSON with parameters", asJSON, "", `{"query":"SELECT ? || 'x' AS a","params":["' OR 1=1 --"]}`, 200, `' OR 1=1 --x`, "false"},
		{"CSV", text, "text/csv", "SELECT device_id FROM device_state ORDER BY 1", 200, "device_id\nhomecontroller\n", "false"},
		{"cut off", text, "text/csv", "SELECT unnest(range(9))", 200, "4\n", "true"},
		{"fewer rows", asJSON, "text/csv", `{"query":"SELECT unnest(range(9)) AS n","max_rows":2}`, 200, "n\n0\n1\n", "true"},
		{"a mistake", text, "", "SELEC 1", 400, `syntax error`, ""},
		{"an unknown column", text, "", "SELECT devce_id FROM device_state", 400, `device_id`, ""},
		{"no reading only", text, "", "DELETE FROM logs", 400, `not allowed`, ""},
		{"two statements", text, "", "SELECT 1; SELECT 2", 400, `want one`, ""},
		{"nothing", text, "", "  ", 400, `there is no query`, ""},
		{"an unknown form", text, "image/png", "SELECT 1", 406, `none of the media types`, ""},
		{"an unknown body", "image/png", "", "SELECT 1", 415, `want text/plain or application/json`, ""},
		{"bad JSON", asJSON, "", `{"query":"SELECT 1"} x`, 400, `something follows it`, ""},
		{"bad parameter", asJSON, "", `{"query":"SELECT ?","params":[{}]}`, 400, `params[0]: want text`, ""},
		{"too long", asJSON, "", `{"query":"SELECT 1","timeout":"1h"}`, 400, `timeout: \"1h\"`, ""},
		{"out of time", asJSON, "", `{"query":"SELECT count(*) FROM range(1000000000) a, range(1000000000) b","timeout":"100ms"}`, 422, `took too long`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, h, body := f.ask(t, "POST", "/v1/sql", c.body, "Content-Type", c.contentType, "Accept", c.accept)
			if code != c.code || !strings.Contains(body, c.want) || h.Get("Millrace-Truncated") != c.truncated {
				t.Errorf("%d, truncated %q: %s\nwant %d, %q: %s", code, h.Get("Millrace-Truncated"), body, c.code, c.truncated, c.want)
			}
		})
	}
}

func TestWithoutStoresTheAPISaysWhereTheyAre(t *testing.T) {
	f := start(t, func(_ *live.Config, d *live.Deps) { d.Tables, d.SQL = nil, nil })
	for path, table := range map[string]string{"/v1/devices": "devices", "/v1/logs": "logs", "/v1/alarms": "alarms", "/v1/dead-letters": "dead_letters"} {
		code, _, body := f.ask(t, "GET", path, "")
		if code != http.StatusNotImplemented || !strings.Contains(body, "keeps "+table+": where it is embedded, ask the `millrace run`") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _, body := f.ask(t, "POST", "/v1/alarms/a1/ack", ""); code != http.StatusNotImplemented {
		t.Errorf("ack: %d %s", code, body)
	}
	if code, _, body := f.ask(t, "POST", "/v1/sql", "SELECT 1"); code != http.StatusNotImplemented || !strings.Contains(body, "ClickHouse") {
		t.Errorf("SQL: %d %s", code, body)
	}
	if code, _, _ := f.ask(t, "GET", "/v1/status", ""); code != http.StatusOK {
		t.Errorf("status: %d", code)
	}
}

func TestEachTableIsAskedOfTheStoreThatKeepsIt(t *testing.T) {
	f := start(t, func(_ *live.Config, d *live.Deps) {
		all := d.Tables
		d.SQL = nil
		d.Tables = func(table string) store.Reader {
			switch table {
			case store.TableDevices, store.TableState:
				return nil
			case store.TableLogs:
				return fixed{{"default", "elsewhere", "", "Error", "", "from another store", noon().Std(), noon().Std(), "", noon().Std(), int32(0), int64(1)}}
			}
			return all(table)
		}
	})
	f.fill(t)
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/v1/devices":      {http.StatusNotImplemented, "keeps devices"},
		"/v1/state":        {http.StatusNotImplemented, "keeps device_state"},
		"/v1/logs":         {http.StatusOK, "from another store"},
		"/v1/alarms":       {http.StatusOK, "panel-alarm"},
		"/v1/dead-letters": {http.StatusOK, "not JSON"},
	} {
		if code, _, body := f.ask(t, "GET", path, ""); code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d %s, want %d %s", path, code, body, want.code, want.text)
		}
	}
}

// fixed is a store that answers every selection with the same rows.
type fixed [][]any

func (f fixed) Select(_ context.Context, s store.Selection, each func(row []any) error) error {
	for _, row := range f[:min(len(f), s.Limit)] {
		if err := each(row); err != nil {
			return err
		}
	}
	return nil
}

// TestCursorsHoldOnAnotherReplica goes through each listing, each page asked of the replica that did not give the last one. A
// cursor that one of them could not read, or read otherwise, would lose or repeat rows.
func TestCursorsHoldOnAnotherReplica(t *testing.T) {
	one := start(t, nil)
	one.fill(t)
	other := start(t, func(_ *live.Config, d *live.Deps) {
		d.Tables, d.SQL = func(string) store.Reader { return one.db }, one.db
	})
	for path, member := range map[string]string{
		"/v1/devices": "devices", "/v1/state": "state", "/v1/devices/thermostat-1/messages": "messages", "/v1/aggregates": "aggregates",
		"/v1/alarms": "alarms", "/v1/logs": "logs", "/v1/dead-letters": "dead_letters",
	} {
		all, next := one.get(t, path, member)
		if len(all) < 2 || next != "" {
			t.Fatalf("%s: %d rows, more %q", path, len(all), next)
		}
		var paged []map[string]any
		replicas := []*fixture{one, other}
		for cursor := ""; ; cursor = next {
			rows, after := replicas[len(paged)%2].get(t, path+"?limit=1&cursor="+cursor, member)
			paged = append(paged, rows...)
			if next = after; next == "" {
				break
			}
		}
		if !reflect.DeepEqual(paged, all) {
			t.Errorf("%s: page by page %v\nwant %v", path, paged, all)
		}
	}
}

// TestARowIDMayBeAText pages through a store whose row ids are texts that look like numbers.
func TestARowIDMayBeAText(t *testing.T) {
	var seen []any
	f := start(t, func(_ *live.Config, d *live.Deps) {
		d.Tables = func(string) store.Reader {
			return reader(func(s store.Selection, each func(row []any) error) error {
				if s.After != nil {
					seen = s.After
				}
				row := make([]any, len(s.Columns), len(s.Columns)+2)
				row = append(row, noon().Std(), "=7")
				return errors.Join(each(row), each(row))
			})
		}
	})
	_, next := f.get(t, "/v1/dead-letters?limit=1", "dead_letters")
	f.get(t, "/v1/dead-letters?limit=1&cursor="+next, "dead_letters")
	if want := []any{noon(), "=7"}; !reflect.DeepEqual(seen, want) {
		t.Errorf("the store was asked for rows after %#v, want %#v", seen, want)
	}
}

type reader func(s store.Selection, each func(row []any) error) error

func (r reader) Select(_ context.Context, s store.Selection, each func(row []any) error) error {
	return r(s, each)
}

func TestALargeAnswerIsCompressedWhenAskedFor(t *testing.T) {
	f := start(t, nil)
	f.fill(t)
	req, err := http.NewRequest("GET", f.url+"/v1/devices/thermostat-1/messages", nil)
	must(t, err)
	req.Header.Set("Accept-Encoding", "br, gzip;q=0.8")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	if resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("encoding %q", resp.Header.Get("Content-Encoding"))
	}
	z, err := gzip.NewReader(resp.Body)
	must(t, err)
	var answer struct{ Messages []any }
	must(t, json.NewDecoder(z).Decode(&answer))
	if len(answer.Messages) != 25 {
		t.Errorf("%d messages", len(answer.Messages))
	}
	if _, h, _ := f.ask(t, "GET", "/v1/devices/thermostat-1/messages", "", "Accept-Encoding", "gzip;q=0"); h.Get("Content-Encoding") != "" {
		t.Error("compressed although it was refused")
	}
}

func TestThePageIsShutOffFromElsewhere(t *testing.T) {
	f := start(t, nil)
	code, h, body := f.ask(t, "GET", "/", "")
	policy := h.Get("Content-Security-Policy")
	if code != 200 || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Fatalf("%d, policy %q", code, policy)
	}
	for _, word := range []string{"http://", "https://", " style=", " onclick=", "<script>"} {
		if strings.Contains(body, word) {
			t.Errorf("the page has %q", word)
		}
	}
	if code, _, _ := f.ask(t, "POST", "/v1/alarms/a1/ack", "", "Sec-Fetch-Site", "cross-site"); code != http.StatusForbidden {
		t.Errorf("an acknowledgement from another site's page: %d", code)
	}
}

func FuzzQueryParameters(f *testing.F) {
	fx := start(f, nil)
	fx.fill(f)
	f.Add("logs", "severity=error&from=-1h&cursor=WyIxIiwiMiIsIjMiXQ")
	f.Add("alarms", "state=open&device=' OR 1=1 --")
	f.Add("aggregates", "window=1e308&limit=-1&from=99999999999999999999")
	f.Add("devices/x/messages", "cursor=WyIxIl0&to=0")
	f.Fuzz(func(t *testing.T, path, query string) {
		u := url.URL{Path: "/v1/" + path, RawQuery: query}
		if strings.HasPrefix(path, "live") {
			return // endless
		}
		req, err := http.NewRequest("GET", fx.url+u.EscapedPath(), nil)
		if err != nil {
			return
		}
		req.URL.RawQuery = query
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return // what the client itself refuses
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode >= 500 {
			t.Fatalf("%s?%s: %s", path, query, resp.Status)
		}
	})
}
