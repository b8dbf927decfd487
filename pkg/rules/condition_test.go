package rules_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/pkg/telemetry"
)

func thermostat() telemetry.Message {
	return telemetry.Message{
		Tenant: "default", DeviceID: "lab1", DeviceType: "thermostat", Kind: telemetry.KindChannel,
		ChannelKey: "temperature", ChannelType: "number", ChannelValue: []byte("21.5"), Value: 21.5, HasValue: true,
		EventTime: 1_000_000_000, IngestTime: 2_000_000_000, MessageID: "m1", Source: "mqtt", Codec: "channel",
		Properties: []telemetry.Property{{Key: "site", Value: "hall"}, {Key: "site", Value: "roof"}},
		Attributes: []byte(`{"battery":80,"firmware":"1.2"}`),
	}
}

func panel() telemetry.Message {
	return telemetry.Message{
		Tenant: "default", DeviceID: "homecontroller", DeviceType: "gateway", Kind: telemetry.KindChannel,
		ChannelKey: "status@secvest", ChannelType: "json",
		ChannelValue: []byte(`{"Name":"Secvest","Partitions":[{"id":"1","state":"unset"},{"id":"2","state":"set"}],"level":3}`),
	}
}

func logLine() telemetry.Message {
	return telemetry.Message{
		Tenant: "default", DeviceID: "homecontroller", Kind: telemetry.KindLog, Severity: telemetry.SeverityError, Text: "Modem lost",
	}
}

func TestMessageConditions(t *testing.T) {
	messages := map[string]telemetry.Message{"thermostat": thermostat(), "panel": panel(), "log": logLine()}
	reference := map[string]any{"sites": map[string]string{"town": "Ulm", "limit": "20"}, "rooms": map[string]any{}}
	tests := []struct {
		expr, on string
		want     bool
		fault    string // part of the evaluation's error
	}{
		{`true`, "log", true, ""},
		{`kind == "channel"`, "thermostat", true, ""},
		{`kind == "channel"`, "log", false, ""},
		{`"log" == kind`, "log", true, ""},
		{`kind != "log"`, "log", false, ""},
		{`kind != "log"`, "panel", true, ""},
		{`kind in ["log", "event"]`, "log", true, ""},
		{`deviceId == "lab1" && channelKey == "temperature" && value > 20`, "thermostat", true, ""},
		{`value == 21.5`, "thermostat", true, ""},
		{`value * 2 == 43`, "thermostat", true, ""},
		{`-1 * value < 0 - 21`, "thermostat", true, ""},
		{`math.abs(value - 20) <= 1`, "thermostat", false, ""},
		{`value > 20`, "panel", false, "ask hasValue first"},
		{`hasValue && value > 20`, "panel", false, ""},
		{`json.battery == 80`, "thermostat", true, ""},
		{`json.battery + 1 == 81`, "thermostat", true, ""},
		{`attributes.firmware == "1.2"`, "thermostat", true, ""},
		{`json.level == 3`, "panel", true, ""},
		{`json.level in [1, 3]`, "panel", true, ""},
		{`json.Partitions.exists(p, p.state == "set")`, "panel", true, ""},
		{`json.Partitions.all(p, p.state == "set")`, "panel", false, ""},
		{`json.Partitions[0].id == "1"`, "panel", true, ""},
		{`has(json.Partitions)`, "thermostat", false, ""},
		{`json.Partitions[0].id == "1"`, "thermostat", false, "no such key"},
		{`json.level`, "panel", false, "want true or false"},
		{`has(json.x)`, "log", false, ""},
		{`severity == "error"`, "log", true, ""},
		{`level(severity) >= level("warning")`, "log", true, ""},
		{`level(severity) >= level("warning")`, "panel", false, ""},
		{`text.lowerAscii().contains("modem")`, "log", true, ""},
		{`text.matches("^Modem .*$")`, "log", true, ""},
		{`properties.site == "roof"`, "thermostat", true, ""},
		{`properties["site"] == "roof" && "site" in properties`, "thermostat", true, ""},
		{`properties.floor == "2"`, "thermostat", false, "no such key"},
		{`reference.sites.town == "Ulm"`, "log", true, ""},
		{`value > double(reference.sites.limit)`, "thermostat", true, ""},
		{`has(reference.rooms.name)`, "log", false, ""},
		{`eventTime < ingestTime && ingestTime == timestamp("1970-01-01T00:00:02Z")`, "thermostat", true, ""},
		{`tenant == "default" && messageId == "m1" && source == "mqtt" && codec == "channel"`, "thermostat", true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.expr+" on "+tt.on, func(t *testing.T) {
			c, err := rules.CompileMessage(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			m := messages[tt.on]
			var in rules.Message
			in.Set(&m, reference)
			for range 2 { // the second time from what the first one kept
				got, err := c.Matches(&in)
				if tt.fault != "" {
					if err == nil || !strings.Contains(err.Error(), tt.fault) {
						t.Fatalf("error %v, want one that says %q", err, tt.fault)
					}
					continue
				}
				if err != nil || got != tt.want {
					t.Fatalf("got %v, %v, want %v", got, err, tt.want)
				}
			}
		})
	}
}

func TestASyntaxErrorNamesLineAndColumn(t *testing.T) {
	tests := []struct{ name, expr, want string }{
		{"unknown variable", "kind == \"log\" &&\n  kin == \"x\"", `line 2, column 3: there is no variable or function "kin", want one of kind, tenant, `},
		{"wrong type", `value > "30"`, `line 1, column 7: found no matching overload for '_>_' applied to '(double, string)'`},
		{"not a condition", `value + 1`, `the condition gives a value of type double, want true or false`},
		{"broken off", `value >`, `line 1, column 8: the condition ends before it is complete`},
		{"empty", ``, `line 1, column 1: the condition ends before it is complete`},
		{"a kind that is none", `deviceId == "a" && kind == "Channel"`, `line 1, column 28: kind is never "Channel", want channel, log, event, session or unknown`},
		{"a severity that is none", `severity in ["error", "fatal"]`, `line 1, column 23: severity is never "fatal", want trace, `},
		{"a level that is none", `level(severity) > level("bad")`, `line 1, column 25: there is no severity "bad", want trace, `},
		{"too long", strings.Repeat("(", 9000), `the condition has 9000 bytes, want at most 8192`},
		{"too deep", strings.Repeat("(", 5000), `line 1, column `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := rules.CompileMessage(tt.expr)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("error %v, want %s", err, tt.want)
			}
		})
	}
	_, err := rules.CompileMessage("\nkin")
	var where *rules.SyntaxError
	if !errors.As(err, &where) || where.Line != 2 || where.Column != 1 {
		t.Fatalf("error %v, want a SyntaxError at line 2, column 1", err)
	}
}

func TestAnEvaluationThatCostsTooMuchIsAnError(t *testing.T) {
	c, err := rules.CompileMessage(`json.exists(a, json.exists(b, json.exists(c, a + b + c < 0)))`)
	if err != nil {
		t.Fatal(err)
	}
	m := telemetry.Message{Kind: telemetry.KindEvent, ChannelValue: []byte("[" + strings.Repeat("1,", 200) + "1]")}
	var in rules.Message
	in.Set(&m, nil)
	if _, err := c.Matches(&in); err == nil || !strings.Contains(err.Error(), "cost limit exceeded") {
		t.Fatalf("error %v, want one of cost", err)
	}
}

func TestReferencesAreNamed(t *testing.T) {
	c, err := rules.CompileMessage(`reference.b.x == "1" || has(reference.a.y) || reference["c"].z == "2" || reference.b.z == "3"`)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.References(), " "); got != "a b c" {
		t.Fatalf("got %q, want a b c", got)
	}
}

func TestAggregateConditions(t *testing.T) {
	a := telemetry.Aggregate{
		DeviceID: "mast", ChannelKey: "wind", WindowStart: 60_000_000_000, WindowLength: 10_000_000_000,
		Count: 4, Min: 1, Max: 9, Sum: 20, First: 2, Last: 8, P50: 5, P95: 8, P99: 9, Final: true, Revision: 1,
	}
	tests := map[string]bool{
		`avg == 5 && count >= 4 && windowSeconds == 10`:                              true,
		`channelKey == "wind" && max > 8`:                                            true,
		`channelKey == "rain" && max > 8`:                                            false,
		`final && revision == 1 && last - first > 5`:                                 true,
		`min + max + sum + p50 + p95 + p99 > 51`:                                     true,
		`windowEnd - windowStart == duration("10s") && windowStart == timestamp(60)`: true,
		`deviceType == ""`:                                                           true,
	}
	for expr, want := range tests {
		c, err := rules.CompileAggregate(expr)
		if err != nil {
			t.Fatal(err)
		}
		var in rules.Aggregate
		in.Set(&a)
		if got, err := c.Matches(&in); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", expr, got, err, want)
		}
	}
	if _, err := rules.CompileAggregate(`kind == "channel"`); err == nil {
		t.Error("an aggregate has no kind, yet it compiled")
	}
}

func TestChangeConditions(t *testing.T) {
	m := panel()
	first := rules.Previous{}
	before := rules.Previous{Known: true, Text: []byte(`{"level":2}`)}
	number := rules.Previous{Known: true, Text: []byte("20"), Value: 20, HasValue: true}
	tests := []struct {
		expr string
		old  rules.Previous
		want bool
	}{
		{`hasOld`, first, false},
		{`old == ""`, first, true},
		{`json.level == 3 && oldJson.level == 2`, before, true},
		{`json.level > oldJson.level`, before, true},
		{`has(oldJson.level)`, first, false},
		{`hasOldValue && oldValue == 20`, number, true},
		{`hasOldValue && oldValue == 20`, before, false},
		{`new.contains("Secvest") && new == channelValue`, before, true},
	}
	for _, tt := range tests {
		c, err := rules.CompileChange(tt.expr)
		if err != nil {
			t.Fatal(err)
		}
		var in rules.Change
		in.Set(&m, nil, tt.old)
		if got, err := c.Matches(&in); err != nil || got != tt.want {
			t.Errorf("%s: got %v, %v, want %v", tt.expr, got, err, tt.want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{`kind == "log"`, `json.a.b[0] in [1,2]`, `value > 3 || !(1 in [2])`, `has(json.x) ? true : level("info") > 1`, `[1].exists(x, x == kind)`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		c, err := rules.CompileMessage(expr)
		if err != nil {
			return
		}
		for _, m := range []telemetry.Message{thermostat(), panel(), logLine(), {}} {
			var in rules.Message
			in.Set(&m, nil)
			held, _ := c.Matches(&in)
			if held && !c.Guard().Matches(rules.KeyOf(&m)) {
				t.Fatalf("%q holds where its guard does not", expr)
			}
		}
	})
}
