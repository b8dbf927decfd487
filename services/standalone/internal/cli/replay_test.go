package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

func TestAReplayThatMakesNoSenseIsRefusedWithWords(t *testing.T) {
	data := t.TempDir()
	rules := filepath.Join(data, "rules.yml")
	if err := os.WriteFile(rules, []byte("rules:\n  - {name: hot, condition: value >}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no worker":           {[]string{"--into", "x"}, `--worker "": want one of history-writer`},
		"no place":            {[]string{"--worker", "history-writer"}, "--into: want the place of the new store"},
		"alarms":              {[]string{"--worker", "alerting", "--into", "x"}, "alarms are not raised a second time"},
		"rules and a store":   {[]string{"--rules", "r.yml", "--worker", "aggregator"}, "it makes no store"},
		"rules of all time":   {[]string{"--rules", "r.yml"}, "--from: want the time"},
		"a faulty rule":       {[]string{"--rules", rules, "--from", "1h"}, "rules[0].condition"},
		"a device":            {[]string{"--worker", "history-writer", "--into", "x", "--device", "d"}, "a store is made anew as a whole"},
		"no time":             {[]string{"--worker", "history-writer", "--into", "x", "--from", "soon"}, `--from: "soon": want a time such as`},
		"an end before":       {[]string{"--worker", "history-writer", "--into", "x", "--from", "1h", "--to", "2h"}, "is not before --to"},
		"into the live store": {[]string{"--worker", "history-writer", "--into", filepath.Join(data, "again")}, "within the data directory"},
		"no archive":          {[]string{"--worker", "archive-writer", "--into", "x"}, "the configuration has no archive.url"},
		"no instance":         {[]string{"--worker", "history-writer", "--into", filepath.Join(t.TempDir(), "x")}, "the log of the instance"},
	} {
		_, _, err := shell(t, nil, "", append([]string{"replay", "--data", data}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"now": now, "24h": now.Add(-24 * time.Hour), "-90m": now.Add(-90 * time.Minute), "2026-03-01": time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		"2026-03-01 10:30": time.Date(2026, 3, 1, 10, 30, 0, 0, time.UTC), "2026-03-01T10:30:05.5+02:00": time.Date(2026, 3, 1, 8, 30, 5, 5e8, time.UTC),
	} {
		if got, err := parseMoment(text, now); err != nil || got != telemetry.At(want) {
			t.Errorf("%q: %v %v, want %v", text, got.Std(), err, want)
		}
	}
}

func TestAPlaceTakesThatOfTheNameInAnAddress(t *testing.T) {
	for address, want := range map[string]string{
		"clickhouse://u@h1:9000,h2:9000/live?x=1": "clickhouse://u@h1:9000,h2:9000/again?x=1",
		"http://h:8123":                          "http://h:8123/again",
		"s3://bucket/prefix?region=r&endpoint=e": "s3://bucket/again?region=r&endpoint=e",
	} {
		if got := withPlace(address, "again"); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	if got := withPlace("s3://bucket/prefix", "gs://other/x"); got != "gs://other/x" {
		t.Error(got)
	}
}
