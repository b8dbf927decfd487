package parquetfile_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store/parquetfile"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// segments holds messages of several hours, in two segments.
func segments(t *testing.T, n int) []parquetfile.View {
	t.Helper()
	both := []*parquetfile.Segment{parquetfile.NewSegment(), parquetfile.NewSegment()}
	for i := range n {
		m := storetest.Message(i)
		m.EventTime = telemetry.Time(int64(i%5)*int64(time.Hour) + int64(n-i))
		if reason := both[i%2].Add(&m); reason != "" {
			t.Fatal(reason)
		}
	}
	return []parquetfile.View{both[0].View(), both[1].View()}
}

func TestAnHourIsOneSortedFile(t *testing.T) {
	views := segments(t, 1000)
	hours := parquetfile.Order(views)
	if len(hours) != 5 {
		t.Fatalf("%d hours, want 5", len(hours))
	}
	seen := map[string]bool{}
	for _, hour := range hours {
		var file bytes.Buffer
		var stats parquetfile.Stats
		if err := parquetfile.WriteHour(&file, 64, &stats, views, hour); err != nil {
			t.Fatal(err)
		}
		var devices []string
		for row, err := range parquetfile.Rows(bytes.NewReader(file.Bytes()), int64(file.Len())) {
			if err != nil {
				t.Fatal(err)
			}
			if h := parquetfile.HourOf(row.EventTime); h != hour.Hour || row.EventTime < stats.MinEvent || row.EventTime > stats.MaxEvent {
				t.Fatalf("a row of hour %d at %d, in the file of %d from %d to %d", h, row.EventTime, hour.Hour, stats.MinEvent, stats.MaxEvent)
			}
			devices = append(devices, row.DeviceID)
			seen[row.MessageID] = true
		}
		if !slices.IsSorted(devices) || devices[0] != stats.First.ID || devices[len(devices)-1] != stats.Last.ID {
			t.Errorf("devices are not in order, from %v to %v", stats.First, stats.Last)
		}
		if stats.Rows != 200 || len(devices) != 200 || hour.Len() != 200 {
			t.Errorf("%d rows, %d by the statistics, want 200", len(devices), stats.Rows)
		}
	}
	if len(seen) != 1000 {
		t.Errorf("%d different rows, want 1000", len(seen))
	}
}

func TestHoursThatAreTooManyShareAFile(t *testing.T) {
	views := segments(t, 1000)
	for n, want := range map[int]int{0: 1, 1: 1, 3: 3, 5: 5, 9: 5} {
		hours := parquetfile.Spread(views, parquetfile.Order(views), n)
		rows := 0
		for i := range hours {
			rows += hours[i].Len()
		}
		if len(hours) != want || rows != 1000 || hours[len(hours)-1].Spread != (n < 5) {
			t.Errorf("at most %d: %d hours with %d rows, want %d with 1000", n, len(hours), rows, want)
		}
	}
}

func TestFoldersOfHours(t *testing.T) {
	for at, want := range map[int64]string{
		0: "dt=1970-01-01/hour=00", -1: "dt=1969-12-31/hour=23", 1_770_091_200_000_000_000: "dt=2026-02-03/hour=04",
	} {
		hour := parquetfile.HourOf(telemetry.Time(at))
		if got := parquetfile.HourDir(hour); got != want || parquetfile.HourStart(hour) > telemetry.Time(at) {
			t.Errorf("%d lies in %s, want %s", at, got, want)
		}
	}
}

func FuzzRows(f *testing.F) {
	var file bytes.Buffer
	var stats parquetfile.Stats
	segment := parquetfile.NewSegment()
	m := storetest.Message(1)
	segment.Add(&m)
	views := []parquetfile.View{segment.View()}
	if err := parquetfile.WriteHour(&file, 64, &stats, views, parquetfile.Order(views)[0]); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for _, err := range parquetfile.Rows(bytes.NewReader(b), int64(len(b))) {
			if err != nil {
				return
			}
		}
	})
}
