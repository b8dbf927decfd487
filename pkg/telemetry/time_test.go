package telemetry_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

func TestTimesAreReadToTheNanosecond(t *testing.T) {
	for text, want := range map[string]string{
		"2017-04-12T17:05:20.4808507Z":      "2017-04-12T17:05:20.4808507Z",
		"2017-04-12T17:05:20.123456789Z":    "2017-04-12T17:05:20.123456789Z",
		"2017-04-12T17:05:20.1234567899Z":   "2017-04-12T17:05:20.123456789Z",
		"2017-04-12T17:05:20,5+02:00":       "2017-04-12T15:05:20.5Z",
		"2017-04-12T17:05:20-0530":          "2017-04-12T22:35:20Z",
		"2017-04-12T17:05:20+01":            "2017-04-12T16:05:20Z",
		"2017-04-12 17:05:20":               "2017-04-12T17:05:20Z",
		"2017-04-12 17:05:20 +0200":         "2017-04-12T15:05:20Z",
		"2017-04-12t17:05z":                 "2017-04-12T17:05:00Z",
		" 2017-04-12T17:05:20 ":             "2017-04-12T17:05:20Z",
		"2016-02-29T00:00:00Z":              "2016-02-29T00:00:00Z",
		"2016-12-31T23:59:60Z":              "2017-01-01T00:00:00Z",
		"1969-12-31T23:59:59.5Z":            "1969-12-31T23:59:59.5Z",
		"0001-01-01T00:00:00":               "1678-01-01T00:00:00Z",
		"9999-12-31T23:59:59.9999999Z":      "2262-01-01T00:00:00Z",
		"1970-01-01T00:00:00Z":              "1970-01-01T00:00:00.000000001Z",
		"1492017920":                        "2017-04-12T17:25:20Z",
		"1492017920.4808507":                "2017-04-12T17:25:20.4808507Z",
		"1492017920480":                     "2017-04-12T17:25:20.48Z",
		"1492017920480.8507":                "2017-04-12T17:25:20.4808507Z",
		"1492017920480850":                  "2017-04-12T17:25:20.48085Z",
		"1492017920480850700":               "2017-04-12T17:25:20.4808507Z",
		"1.4920179204808507e9":              "2017-04-12T17:25:20.4808507Z",
		"+1492017920":                       "2017-04-12T17:25:20Z",
		"-1.5":                              "1969-12-31T23:59:58.5Z",
		"0":                                 "1970-01-01T00:00:00.000000001Z",
		"00000000000000000000001492017920":  "2017-04-12T17:25:20Z",
		"1492017920.0000000000000000000001": "2017-04-12T17:25:20Z",
		"9999999999999999999":               "2262-01-01T00:00:00Z",
	} {
		t.Run(text, func(t *testing.T) {
			got, err := telemetry.ParseTime(text, nil)
			if err != nil {
				t.Fatal(err)
			}
			if s := got.Std().Format(time.RFC3339Nano); s != want {
				t.Fatalf("got %s, want %s", s, want)
			}
		})
	}
}

func TestWhatIsNoTimeIsRefused(t *testing.T) {
	for _, text := range []string{
		"", " ", "yesterday", "noon", "2017-04-12", "2017-04-12T17", "2017-04-12T17:05:2", "2017-04-12T17:05:20.", "2017-04-12T17:05:20X",
		"2017-13-12T17:05:20Z", "2017-02-29T17:05:20Z", "1900-02-29T00:00:00Z", "2017-04-31T17:05:20Z", "2017-04-12T24:00:00Z",
		"2017-04-12T17:60:20Z", "2017-04-12T17:05:61Z", "2017-04-12T17:05:20+2", "2017-04-12T17:05:20+19:00", "2017-04-12T17:05:20+02:60",
		"2017-04-12T17:05:20+02:000", "20a7-04-12T17:05:20Z", "2017-04-12T1a:05:20Z", "2017/04/12 17:05:20", "12:05", "NaN", "1e", "1e99", "-", ".", "1.2.3",
		"99999999999999999999", "0x10", "1_000", "2017-04-12T17:05:20 ", "2017-00-10T00:00:00Z", "2017-01-00T00:00:00Z",
	} {
		if text == "2017-04-12T17:05:20 " {
			continue // blanks around are fine
		}
		if got, err := telemetry.ParseTime(text, nil); err == nil {
			t.Errorf("%q is read as %v", text, got.Std())
		}
	}
}

func TestALocalTimeIsThatOfItsZone(t *testing.T) {
	zone := time.FixedZone("east", 2*3600)
	got, err := telemetry.ParseTime("2017-04-12T17:05:20.5", zone)
	if err != nil {
		t.Fatal(err)
	}
	if want := telemetry.At(time.Date(2017, 4, 12, 15, 5, 20, 5e8, time.UTC)); got != want {
		t.Fatalf("got %v, want %v", got.Std(), want.Std())
	}
}

func TestTimesAgreeWithTheStandardLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		at := time.Unix(random.Int64N(8e9), random.Int64N(1e9)).In(time.FixedZone("", (random.IntN(28)-14)*1800))
		text := at.Format(time.RFC3339Nano)
		got, err := telemetry.ParseTime(text, nil)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got != telemetry.At(at) {
			t.Fatalf("%s: got %v", text, got.Std())
		}
	}
}

// compareWithStdlib checks a time that RFC 3339 knows, within the years that a Time holds.
func compareWithStdlib(t *testing.T, text string, got telemetry.Time) {
	t.Helper()
	want, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || want.Year() < 1679 || want.Year() > 2260 || want.UnixNano() == 0 {
		return
	}
	if _, fraction, _ := strings.Cut(text, "."); len(fraction) > 9 {
		return // cut off by us at nine digits, by the library as it likes
	}
	if got != telemetry.At(want) {
		t.Fatalf("%s: got %v, want %v", text, got.Std(), want)
	}
}

func TestTheClockIsBelievedWithinReason(t *testing.T) {
	const now = ingestTime
	old := telemetry.At(time.Date(2000, 12, 31, 23, 59, 59, 0, time.UTC))
	for _, c := range []struct {
		name        string
		said        telemetry.Time
		clock       telemetry.Clock
		rule        telemetry.ClockRule
		event, kept telemetry.Time
	}{
		{"as it says", now - 5, telemetry.Clock{}, telemetry.ClockBelieved, now - 5, 0},
		{"nothing said", 0, telemetry.Clock{}, telemetry.ClockSilent, now, 0},
		{"five minutes ahead", now.Add(5 * time.Minute), telemetry.Clock{}, telemetry.ClockBelieved, now.Add(5 * time.Minute), 0},
		{"more than that", now.Add(5*time.Minute + 1), telemetry.Clock{}, telemetry.ClockAhead, now, now.Add(5*time.Minute + 1)},
		{"never set", old, telemetry.Clock{}, telemetry.ClockUnset, now, old},
		{"2001", telemetry.DefaultMinTime, telemetry.Clock{}, telemetry.ClockBelieved, telemetry.DefaultMinTime, 0},
		{"configured skew", now.Add(time.Hour), telemetry.Clock{MaxSkew: 2 * time.Hour}, telemetry.ClockBelieved, now.Add(time.Hour), 0},
		{"configured min", now - 5, telemetry.Clock{MinTime: now - 4}, telemetry.ClockUnset, now, now - 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := telemetry.Message{EventTime: c.said, IngestTime: now}
			if rule := c.clock.Stamp(&m); rule != c.rule || m.EventTime != c.event || m.DeviceTime != c.kept {
				t.Fatalf("rule %d, event %v, device %v", rule, m.EventTime.Std(), m.DeviceTime.Std())
			}
		})
	}
}
