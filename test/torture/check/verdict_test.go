package check_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/torture/check"
	"github.com/millrace/millrace/test/torture/ledger"
)

// book is a ledger of two devices of which messages 0 to 9 were sent: all of device 0 acknowledged, and of device 1 the first five.
func book(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger"), ledger.Plan{
		Name: "t", Devices: 2, Each: 20, Begin: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC), Step: time.Second, Groups: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for d, answered := range []int{10, 5} {
		for n := range 10 {
			l.Send(d, n)
		}
		l.Answer(d, 0, answered)
	}
	return l
}

func TestAHeapTellsWhatIsLostDoubledUnexpectedAndUnknown(t *testing.T) {
	for _, c := range []struct {
		name string
		skip string // one message that is not there
		more []string
		want check.Verdict
	}{
		{name: "all is there", want: check.Verdict{Expected: 14, Found: 14, Rows: 14}},
		{name: "one is lost", skip: "t-0 3", want: check.Verdict{Expected: 14, Found: 13, Lost: 1, Rows: 13}},
		{name: "one is there twice", more: []string{"t-1 2"}, want: check.Verdict{Expected: 14, Found: 14, Doubled: 1, Rows: 15}},
		{name: "one whose answer never came", more: []string{"t-1 8"}, want: check.Verdict{Expected: 14, Found: 14, Unknown: 1, Rows: 15}},
		{name: "the same, twice", more: []string{"t-1 8", "t-1 8"}, want: check.Verdict{Expected: 14, Found: 14, Unknown: 1, Doubled: 1, Rows: 16}},
		{name: "one that was never sent", more: []string{"t-0 15"}, want: check.Verdict{Expected: 14, Found: 14, Unexpected: 1, Rows: 15}},
		{name: "a log line as a value", more: []string{"t-0 7"}, want: check.Verdict{Expected: 14, Found: 14, Unexpected: 1, Rows: 15}},
		{name: "beyond the plan", more: []string{"t-0 999"}, want: check.Verdict{Expected: 14, Found: 14, Unexpected: 1, Rows: 15}},
		{name: "another device", more: []string{"t-2 1"}, want: check.Verdict{Expected: 14, Found: 14, Unexpected: 1, Rows: 14}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := book(t)
			h := check.NewHeap("", l)
			put := func(row string) {
				device, value, _ := strings.Cut(row, " ")
				h.Put(device, value)
			}
			for d, count := range []int{10, 5} {
				for n := range count {
					if row := l.Plan.Device(d) + " " + strconv.Itoa(n); l.Plan.Kind(n) == ledger.Channel && row != c.skip {
						put(row)
					}
				}
			}
			for _, row := range c.more {
				put(row)
			}
			got := h.Verdict()
			if clean := c.want.Lost+c.want.Doubled+c.want.Unexpected == 0; got.Clean() != clean || clean != (len(got.Stories) == 0) {
				t.Errorf("clean: %t, stories %q", got.Clean(), got.Stories)
			}
			if got.Stories = nil; got.Expected != c.want.Expected || got.Found != c.want.Found || got.Lost != c.want.Lost || got.Doubled != c.want.Doubled ||
				got.Unexpected != c.want.Unexpected || got.Unknown != c.want.Unknown || got.Rows != c.want.Rows {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// tables answers SQL by the first word that a query contains, and listings by their path.
func tables(t *testing.T, sql map[string][][]string, lists map[string][]map[string]any) check.Source {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/sql" {
			name := strings.ReplaceAll(strings.TrimPrefix(r.URL.Path, "/v1/"), "-", "_")
			if err := json.NewEncoder(w).Encode(map[string]any{name: lists[name]}); err != nil {
				t.Error(err)
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		out := csv.NewWriter(w)
		defer out.Flush()
		for word, rows := range sql {
			if strings.Contains(string(body), word) {
				header := []string{"header"}
				if len(rows) > 0 {
					header = rows[0]
				}
				if err := out.WriteAll(append([][]string{header}, rows...)); err != nil {
					t.Error(err)
				}
				return
			}
		}
		t.Errorf("no answer to %s", body)
	}))
	t.Cleanup(server.Close)
	return check.Source{Base: server.URL, Client: server.Client()}
}

func TestALateStateIsNotTheNewest(t *testing.T) {
	s := tables(t, map[string][][]string{"arg_max": {{"t-0", "9"}, {"t-1", "4"}}, "FROM device_state": {{"t-0", "9"}, {"t-1", "3"}}}, nil)
	v, err := check.State(t.Context(), s, book(t))
	if err != nil || v.Unexpected != 1 || v.Found != 1 || v.Lost != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestWindowsThatDifferAreToldByWhatTheyLack(t *testing.T) {
	s := tables(t, map[string][][]string{
		"SELECT count(*) FROM aggregates": {{"3"}},
		"HAVING":                          nil,
		"FULL JOIN":                       {{"t-0", "1", "9", "10", "1", "2"}, {"t-0", "2", "11", "10", "1", "2"}, {"t-0", "3", "10", "10", "1", "2"}},
	}, nil)
	v, err := check.Windows(t.Context(), s, 10)
	if err != nil || v.Lost != 1 || v.Doubled != 1 || v.Unexpected != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestAlarmsLogsAndLettersAreHeldAgainstTheMessages(t *testing.T) {
	l := book(t)
	alarm := func(rule, device string) map[string]any {
		return map[string]any{"alarm_id": "x", "rule": rule, "device_id": device, "raised_at": "2026-05-04T10:00:00Z"}
	}
	log := func(device, text string) map[string]any { return map[string]any{"device_id": device, "message": text} }
	s := tables(t, nil, map[string][]map[string]any{
		"alarms":       {alarm("heard", "t-0"), alarm("heard", "t-1"), alarm("heard", "t-1"), alarm("wave", "t-0")},
		"logs":         {log("t-0", "7"), log("t-0", "7"), log("t-1", "7")},
		"dead_letters": {{"payload": `{"DeviceId":"t-0","n":13,"timestamp":`}, {"payload": "else"}},
	})
	for name, c := range map[string]struct {
		check                              func(context.Context, check.Source, *ledger.Ledger) (check.Verdict, error)
		lost, doubled, unexpected, unknown int
	}{
		"alarms":       {check.Alarms, 1, 1, 1, 0}, // the critical one of device 0 is lost, and what nobody called for is there
		"logs":         {check.Logs, 0, 1, 0, 1},
		"dead letters": {check.Letters, 0, 0, 2, 0},
	} {
		v, err := c.check(t.Context(), s, l)
		if err != nil || v.Lost != c.lost || v.Doubled != c.doubled || v.Unexpected != c.unexpected || v.Unknown != c.unknown {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}
