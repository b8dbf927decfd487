// Package feedtest tests the live feed over a log of any driver, as several processes have it. Only tests import it.
package feedtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/telemetry"
)

// GoesOnElsewhere appends all the time to a log of two partitions while a subscriber changes between the hubs of three processes
// on it, as it does when the one that it was at has ended. open returns a handle on the log as of another process, which closes it
// when the test ends.
func GoesOnElsewhere(t *testing.T, open func() bus.Log) {
	t.Helper()
	const total, devices, patience = 2000, 7, 2 * time.Minute
	log := open()
	var hubs []*feed.Hub
	for range 3 {
		hubs = append(hubs, run(t, open()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := hubs[0].Subscribe(ctx, feed.Filter{}, "")
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	for p := range 2 {
		writing.Go(func() { write(ctx, t, log, p, total, devices) })
	}
	next := map[string]int{}
	for got := 0; got < total; {
		events, missed, err := s.Next(ctx)
		if err != nil || missed > 0 {
			t.Fatalf("after %d of %d events: %d missed, %v", got, total, missed, err)
		}
		cut := 1 + rand.IntN(len(events)) // the connection breaks here
		for _, e := range events[:cut] {
			if want := fmt.Sprintf(`"value":%d,`, next[e.Device]); !strings.Contains(string(e.Data), want) {
				t.Fatalf("%s: got %s, want %s in it", e.Device, e.Data, want)
			}
			next[e.Device]++
		}
		got += cut
		if cut < len(events) || rand.IntN(20) == 0 {
			token := events[cut-1].ID
			s.Close()
			if s, err = hubs[rand.IntN(len(hubs))].Subscribe(ctx, feed.Filter{}, token); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Close()
}

// run is a hub on a log of its own until the test ends.
func run(t *testing.T, log bus.Log) *feed.Hub {
	t.Helper()
	h, err := feed.NewHub(feed.DefaultConfig(), feed.Deps{Bus: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case <-h.Ready():
	case <-time.After(time.Minute):
		t.Fatal("the hub does not find the log's end")
	}
	return h
}

// write appends half of total values, of the devices that are in partition p.
func write(ctx context.Context, t *testing.T, log bus.Log, p, total, devices int) {
	t.Helper()
	said := make([]int, devices)
	for n := range total {
		if d := n % devices; d%2 == p {
			r := bus.Record{
				Value:  message(fmt.Sprintf("dev%d", d), said[d]),
				Origin: bus.Origin{Partition: int32(p), Position: bus.Position{Seq: uint64(n) + 1}},
			}
			said[d]++
			if err := log.Append(ctx, bus.PartitionID{Topic: bus.Telemetry, Number: p}, []bus.Record{r}); err != nil {
				t.Errorf("append: %v", err)
				return
			}
		}
	}
}

func message(device string, n int) []byte {
	return telemetry.AppendMessage(nil, &telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: device, Kind: telemetry.KindChannel, ChannelKey: "n", ChannelType: "number",
		ChannelValue: []byte(strconv.Itoa(n)), Value: float64(n), HasValue: true, EventTime: telemetry.Time(n + 1), IngestTime: telemetry.Time(n + 1),
	})
}
