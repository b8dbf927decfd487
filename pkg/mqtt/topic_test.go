package mqtt_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player10", false},
		{"sport/#", "sport", true},
		{"#", "a/b", true},
		{"#", "/", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/+", "$SYS/x", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"+", "a", true},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a//c", true},
		{"a/+/c", "a/b/d", false},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"a", "a", true},
		{"a", "A", false},
		{"a", "ab", false},
		{"ab", "a", false},
		{"a/", "a", false},
		{"a/", "a/", true},
		{"a/", "a/b", false},
		{"a", "a/", false},
		{"a//b", "a//b", true},
		{"a//b", "a/b", false},
		{"a//#", "a/", true},
		{"/", "/", true},
		{"/", "", false},
		{"", "a", false},
	} {
		if got := mqtt.Match(tt.filter, tt.topic); got != tt.want {
			t.Errorf("Match(%q, %q) = %t", tt.filter, tt.topic, got)
		}
		if got := mqtt.Match([]byte(tt.filter), []byte(tt.topic)); got != tt.want {
			t.Errorf("Match of bytes (%q, %q) = %t", tt.filter, tt.topic, got)
		}
	}
}

// matchSlowly is the definition, level by level.
func matchSlowly(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(t) || level != "+" && level != t[i] {
			return false
		}
		if i == len(t)-1 && len(f) == i+2 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(t)
}

func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("+//+", "$/a/")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if mqtt.ValidFilter(filter) != nil || mqtt.ValidTopic(topic) != nil {
			return
		}
		if got, want := mqtt.Match(filter, topic), matchSlowly(filter, topic); got != want {
			t.Errorf("Match(%q, %q) = %t, want %t", filter, topic, got, want)
		}
	})
}

func TestFiltersAndTopicsAreChecked(t *testing.T) {
	for f, ok := range map[string]bool{
		"a": true, "#": true, "+": true, "/": true, "a/#": true, "+/+": true, "a//b": true, "$share/g/a/#": true, "$share": true,
		"": false, "a#": false, "#/a": false, "a/#/b": false, "a+": false, "+a": false, "a/b+/c": false, "##": false, "a\x00": false,
		"\xff": false, "$share/": false, "$share/g": false, "$share/g/": false, "$share//a": false, "$share/+/a": false,
		"$share/g/a#": false, strings.Repeat("a", 65_536): false,
	} {
		if err := mqtt.ValidFilter(f); (err == nil) != ok {
			t.Errorf("ValidFilter(%.20q): %v", f, err)
		}
	}
	for topic, ok := range map[string]bool{
		"a": true, "/": true, "ä/ü": true, "": false, "a/+": false, "#": false, "\xff": false, "a\x00": false,
		strings.Repeat("a", 65_535): true, strings.Repeat("a", 65_536): false,
	} {
		if err := mqtt.ValidTopic(topic); (err == nil) != ok {
			t.Errorf("ValidTopic(%.20q): %v", topic, err)
		}
	}
	if g, f, ok := mqtt.SplitShared("$share/group/a/b"); g != "group" || f != "a/b" || !ok {
		t.Errorf("SplitShared: %q, %q, %t", g, f, ok)
	}
}

func TestReasonsAndTypesHaveNames(t *testing.T) {
	for got, want := range map[string]string{
		mqtt.ReasonPacketTooLarge.String():              "0x95 packet too large",
		mqtt.ReasonWildcardNotSupported.String():        "0xa2 wildcard subscriptions not supported",
		mqtt.ReasonUnspecified.String():                 "0x80 unspecified error",
		mqtt.ReasonSubscriptionIDsNotSupported.String(): "0xa1 subscription identifiers not supported",
		mqtt.ReasonReauthenticate.String():              "0x19 re-authenticate",
		mqtt.Reason(3).String():                         "0x03 unknown reason",
		mqtt.Reason(0xff).String():                      "0xff unknown reason",
		mqtt.TypeAuth.String():                          "AUTH",
		mqtt.Type(99).String():                          "packet type 99",
		mqtt.Version5.String():                          "5.0",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
