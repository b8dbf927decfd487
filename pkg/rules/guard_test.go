package rules_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestAGuardIsReadFromTheExpression(t *testing.T) {
	channel, log := telemetry.KindChannel, telemetry.KindLog
	tests := []struct {
		expr  string
		want  rules.Guard
		exact bool
	}{
		{`true`, nil, true},
		{`false`, rules.Guard{}, true},
		{`value > 3`, nil, false},
		{`kind == "channel"`, rules.Guard{{Kinds: []telemetry.Kind{channel}}}, true},
		{`kind == "channel" && value > 3`, rules.Guard{{Kinds: []telemetry.Kind{channel}}}, false},
		{`channelKey in ["a", "b"] && deviceId == "d"`, rules.Guard{{Channels: []string{"a", "b"}, Devices: []string{"d"}}}, true},
		{`channelKey == "a" && channelKey == "b"`, rules.Guard{}, true},
		{`channelKey == "a" || value > 3`, nil, false},
		{
			`(channelKey == "a" && kind == "channel") || kind == "log"`,
			rules.Guard{{Channels: []string{"a"}, Kinds: []telemetry.Kind{channel}}, {Kinds: []telemetry.Kind{log}}},
			true,
		},
		{`deviceType == "t" && (channelKey == "a" || channelKey == "b")`, rules.Guard{
			{DeviceTypes: []string{"t"}, Channels: []string{"a"}},
			{DeviceTypes: []string{"t"}, Channels: []string{"b"}},
		}, true},
		{`!(kind == "log")`, nil, false},
		{`deviceId == channelKey`, nil, false},
		{`channelKey != "a"`, nil, false},
		{`["a"].exists(channelKey, channelKey == "a")`, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			c, err := rules.CompileMessage(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Guard(); !reflect.DeepEqual(got, tt.want) || c.Exact() != tt.exact {
				t.Fatalf("got %#v, exact %v, want %#v, exact %v", got, c.Exact(), tt.want, tt.exact)
			}
		})
	}
}

func TestAGuardOfTooManyClausesIsWidened(t *testing.T) {
	var g, h rules.Guard
	for i := range 40 {
		g = append(g, rules.Clause{Channels: []string{fmt.Sprint("c", i)}})
		h = append(h, rules.Clause{Devices: []string{fmt.Sprint("d", i)}})
	}
	if got := g.Or(h); got != nil {
		t.Errorf("or: %d clauses, want none", len(got))
	}
	both := g.And(h)
	if !both.Matches(rules.Key{ChannelKey: "c39", DeviceID: "d39"}) {
		t.Error("and: what fulfils both is not let through")
	}
	if both.Matches(rules.Key{ChannelKey: "x", DeviceID: "x"}) {
		t.Error("and: what fulfils neither is let through")
	}
}

func TestAnIndexFindsWhatAScanFinds(t *testing.T) {
	exprs := []string{
		`true`, `false`, `kind == "log"`, `kind in ["log", "channel"]`, `channelKey == "a"`, `channelKey in ["a", "a", "b"]`,
		`deviceId == "d"`, `deviceId == "d" && channelKey == "a"`, `deviceType == "t"`, `kind != "log"`,
		`channelKey == "a" || deviceId == "d" || kind == "channel"`, `deviceType == "t" && deviceId in ["d", "e"]`, `channelKey == ""`,
	}
	var index rules.Index[string]
	var guards []rules.Guard
	for _, expr := range exprs {
		c, err := rules.CompileMessage(expr)
		if err != nil {
			t.Fatal(err)
		}
		index.Add(c.Guard(), expr)
		guards = append(guards, c.Guard())
	}
	for _, kind := range []telemetry.Kind{telemetry.KindUnknown, telemetry.KindChannel, telemetry.KindLog, 99} {
		for _, device := range []string{"d", "e", "x"} {
			for _, deviceType := range []string{"", "t"} {
				for _, channel := range []string{"", "a", "b", "c"} {
					k := rules.Key{Kind: kind, DeviceID: device, DeviceType: deviceType, ChannelKey: channel}
					var want []string
					for i, g := range guards {
						if g.Matches(k) {
							want = append(want, exprs[i])
						}
					}
					if got := index.Match(nil, k); !slices.Equal(got, want) {
						t.Errorf("%+v: got %q, want %q", k, got, want)
					}
				}
			}
		}
	}
}

func BenchmarkIndex(b *testing.B) {
	for _, foreign := range []int{0, 100} {
		b.Run(fmt.Sprintf("%d on other channels", foreign), func(b *testing.B) {
			var index rules.Index[int]
			for _, expr := range []string{`kind == "channel"`, `kind == "log"`, `kind == "event"`} {
				add(b, &index, expr)
			}
			for i := range foreign {
				add(b, &index, fmt.Sprintf(`channelKey == "other%d" && value > 3`, i))
			}
			m := thermostat()
			k := rules.KeyOf(&m)
			dst := make([]int, 0, 8)
			b.ReportAllocs()
			for b.Loop() {
				dst = index.Match(dst[:0], k)
			}
		})
	}
}

func add(b *testing.B, index *rules.Index[int], expr string) {
	b.Helper()
	c, err := rules.CompileMessage(expr)
	if err != nil {
		b.Fatal(err)
	}
	index.Add(c.Guard(), index.Len())
}

func BenchmarkMatches(b *testing.B) {
	for _, expr := range []string{`kind == "channel"`, `value > 30`, `hasValue && value > 30 && properties.site == "roof"`, `json.battery < 10`, `json.exists(k, k == "x")`} {
		b.Run(expr, func(b *testing.B) {
			c, err := rules.CompileMessage(expr)
			if err != nil {
				b.Fatal(err)
			}
			m := thermostat()
			var in rules.Message
			b.ReportAllocs()
			for b.Loop() {
				in.Set(&m, nil)
				if _, err := c.Matches(&in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := rules.CompileMessage(`channelKey == "a" && value > 3`); err != nil {
			b.Fatal(err)
		}
	}
}
