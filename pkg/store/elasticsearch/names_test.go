package elasticsearch

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestAnIndexIsADaysWhereTheClockIsNearAndCoarserBeyond(t *testing.T) {
	arrival := telemetry.At(time.Date(2026, 3, 15, 12, 0, 0, 0, time.UTC))
	for _, c := range []struct {
		name  string
		event time.Time
		want  string
	}{
		{"now", time.Date(2026, 3, 15, 12, 0, 0, 1, time.UTC), "2026.03.15"},
		{"a month late", time.Date(2026, 2, 13, 0, 0, 0, 0, time.UTC), "2026.02.13"},
		{"tomorrow", time.Date(2026, 3, 16, 11, 0, 0, 0, time.UTC), "2026.03.16"},
		{"two months late", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), "2026.01.31"},
		{"in December", time.Date(2025, 12, 2, 0, 0, 0, 0, time.UTC), "2025.12.31"},
		{"in a leap year's February", time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC), "2026.02.28"},
		{"next week", time.Date(2026, 3, 22, 0, 0, 0, 0, time.UTC), "2026.03.31"},
		{"years ago", time.Date(2001, 5, 1, 0, 0, 0, 0, time.UTC), "2001.12.31"},
		{"years ahead", time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), "2099.12.31"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := string(appendDay(nil, telemetry.At(c.event), arrival))
			if got != c.want {
				t.Errorf("the index is that of %s, want %s", got, c.want)
			}
			if day, ok := dayOf("millrace-logs-" + got); !ok || day.AddDate(0, 0, 1).Before(c.event) {
				t.Errorf("an index that ends %v (%v) holds %v", day, ok, c.event)
			}
		})
	}
}

func TestDaysThatAreNone(t *testing.T) {
	for _, index := range []string{"", "millrace-logs-", "millrace-logs-2026.13.01", "millrace-progress", "2026.01"} {
		if day, ok := dayOf(index); ok {
			t.Errorf("%q is of %v, want of no day", index, day)
		}
	}
}

func TestOrigins(t *testing.T) {
	for want, o := range map[string]bus.Origin{
		"3.81.5":   {Partition: 3, Position: bus.Position{Seq: 81, Index: 5}},
		"-1.7.0":   {Partition: -1, Position: bus.Position{Seq: 7}},
		"0.0.0":    {},
		"1.111.1":  {Partition: 1, Position: bus.Position{Seq: 111, Index: 1}},
		"11.11.1":  {Partition: 11, Position: bus.Position{Seq: 11, Index: 1}},
		"11.1.11":  {Partition: 11, Position: bus.Position{Seq: 1, Index: 11}},
		"111.1.1":  {Partition: 111, Position: bus.Position{Seq: 1, Index: 1}},
		"-11.11.1": {Partition: -11, Position: bus.Position{Seq: 11, Index: 1}},
	} {
		if got := string(appendOrigin(nil, o)); got != want {
			t.Errorf("%v is %s, want %s", o, got, want)
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add("default", "a/b", "c", "default", "a", "b/c")
	f.Add("", "", "", "", "", "/")
	f.Add("%2F", "", "", "/", "", "")
	f.Add("t", strings.Repeat("x", 600), "y", "t", strings.Repeat("x", 600), "z")
	f.Add("t", strings.Repeat("ö", 300), "y", "t", strings.Repeat("ö", 300), "yy")
	f.Fuzz(func(t *testing.T, a, b, c, x, y, z string) {
		first, second := keyID(a, b, c), keyID(x, y, z)
		valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
		same := valid(a) == valid(x) && valid(b) == valid(y) && valid(c) == valid(z)
		if (first == second) != same {
			t.Errorf("keys %q %q %q and %q %q %q have the ids %q and %q", a, b, c, x, y, z, first, second)
		}
		if first == "" || len(first) > idBytesMax || !utf8.ValidString(first) {
			t.Errorf("id %q of %d bytes", first, len(first))
		}
	})
}
