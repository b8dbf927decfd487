package virtual

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	busmem "github.com/millrace/millrace/pkg/bus/mem"
	storemem "github.com/millrace/millrace/pkg/store/mem"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	stopsAt   = 5 * time.Minute
	stopped   = 10 * time.Minute
	catchesUp = 3 * time.Minute

	// partitionBytes is what a partition may hold: more than comes in ten minutes and far less than comes in all, so that the log is
	// trimmed behind its slowest reader.
	partitionBytes = 1050 << 10
	padding        = 512

	onTime = 45 * time.Second // a window's length, its lateness, and the age of a segment
)

// island is every service in a bubble, of which one is stopped for a while.
type island struct {
	t     *testing.T
	log   *busmem.Log
	keep  *storemem.Store
	begun time.Time
	sent  map[string]int // messages by device
	stops map[string]func()
}

func (i *island) start(service string) {
	i.t.Helper()
	ctx, cancel := context.WithCancel(i.t.Context())
	p := &process{service: service, log: i.log.Open(), keep: i.keep.Open()}
	ended := make(chan error, 1)
	go func() { ended <- p.serve(ctx) }()
	i.stops[service] = func() {
		i.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			i.t.Errorf("%s ended: %v", service, err)
		}
	}
}

// send lets each of four devices say something each second until the moment to.
func (i *island) send(to time.Duration) {
	i.t.Helper()
	edge := i.log.Open()
	for time.Since(i.begun) < to {
		second := int(time.Since(i.begun) / time.Second)
		for d := range 4 {
			device := fmt.Sprint("d", d)
			now := telemetry.At(time.Now())
			m := telemetry.Message{
				Tenant: telemetry.DefaultTenant, DeviceID: device, Kind: telemetry.KindChannel, ChannelKey: "temp", Value: 30, HasValue: true,
				ChannelValue: []byte("30"), EventTime: now, IngestTime: now, MessageID: fmt.Sprint(second), Attributes: pad(),
			}
			if second%60 < 10 { // too hot, once a minute
				m.Value, m.ChannelValue = 50, []byte("50")
			}
			if second%10 == 5 {
				m.Kind, m.ChannelKey, m.HasValue, m.Severity, m.Text = telemetry.KindLog, "", false, telemetry.SeverityWarning, "a line"
			}
			id := bus.PartitionID{Topic: bus.Ingested, Number: bus.PartitionOf(m.Tenant, device, 2)}
			if err := edge.Append(i.t.Context(), id, []bus.Record{{Value: telemetry.AppendMessage(nil, &m)}}); err != nil {
				i.t.Fatalf("after %v the edge refuses: %v", time.Since(i.begun), err)
			}
			i.sent[device]++
		}
		<-time.After(time.Second) // of the bubble
	}
}

func pad() []byte {
	b := make([]byte, padding)
	for i := range b {
		b[i] = ' '
	}
	copy(b, `{}`)
	return b
}

// until counts the seconds up to a moment for which yes holds.
func until(at time.Duration, yes func(second int) bool) (n int) {
	for second := range int(at / time.Second) {
		if yes(second) {
			n++
		}
	}
	return n
}

// wrong says what a service's tables lack of what was sent up to a moment, or have twice.
func (i *island) wrong(service string, at time.Duration) error {
	rows := i.keep.Rows()
	isLog := func(s int) bool { return s%10 == 5 }
	isValue := func(s int) bool { return !isLog(s) }
	count := map[string]int{}
	least := 4 // devices
	switch service {
	case "state-projector":
		for _, r := range rows.States {
			if time.Duration(r.EventTime-telemetry.At(i.begun)) >= at-2*time.Second {
				count[r.DeviceID]++
			}
		}
	case "history-writer":
		for _, r := range rows.Messages {
			count[fmt.Sprint(r.DeviceID, " ", r.EventTime)]++
		}
		least = 4 * until(at, isValue)
	case "aggregator":
		windows := 0
		for _, r := range rows.Aggregates {
			if r.WindowLength != int64(10*time.Second) || !r.Final || time.Duration(r.WindowStart-telemetry.At(i.begun))+10*time.Second > at {
				continue
			}
			if r.Count != 9 { // of ten messages one is a log
				return fmt.Errorf("the window of %s at %v counts %d, want 9", r.DeviceID, time.Duration(r.WindowStart-telemetry.At(i.begun)), r.Count)
			}
			windows++
			count[fmt.Sprint(r.DeviceID, " ", r.WindowStart)]++
		}
		least = 4 * int(at/(10*time.Second))
	case "alerting":
		for _, a := range rows.Alarms {
			if a.Rule == "hot" {
				count[a.AlarmID]++
			}
		}
		least = 4 * until(at, func(s int) bool { return s%60 == 0 })
	case "log-consumer":
		for _, r := range rows.Logs {
			count[fmt.Sprint(r.DeviceID, " ", r.EventTime)]++
		}
		least = 4 * until(at, isLog)
	}
	for key, n := range count {
		if n > 1 {
			return fmt.Errorf("%s is there %d times", key, n)
		}
	}
	if service != "router" && len(count) < least {
		return fmt.Errorf("%d rows of what was sent up to %v, want %d", len(count), at, least)
	}
	return nil
}

// TestOneWorkerThatIsStoppedCompromisesNoOther stops each service in turn for ten minutes under load, with a log that is trimmed
// behind its slowest reader. Meanwhile what the others write is whole and on time; afterwards the stopped one catches up, and in the end every
// table is whole. Behind the router there is nothing new to write while it is stopped: what came before is whole.
func TestOneWorkerThatIsStoppedCompromisesNoOther(t *testing.T) {
	for _, stopping := range services() {
		t.Run(stopping, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &island{
					t: t, keep: storemem.New(), begun: time.Now(), sent: map[string]int{}, stops: map[string]func(){},
					log: busmem.New(busmem.Config{Partitions: 2, Now: time.Now, Readers: readers(), BytesMax: partitionBytes}),
				}
				for _, service := range services() {
					i.start(service)
				}
				i.send(stopsAt)
				i.stops[stopping]()
				i.send(stopsAt + stopped)
				whole := stopsAt + stopped - onTime
				if stopping == "router" {
					whole = stopsAt - onTime
				}
				for _, service := range services() {
					if err := i.wrong(service, whole); err != nil && service != stopping {
						t.Errorf("while %s is stopped, %s: %v", stopping, service, err)
					}
				}
				if stopping != "router" && i.wrong(stopping, whole) == nil {
					t.Errorf("%s was not stopped", stopping)
				}
				i.start(stopping)
				i.send(stopsAt + stopped + catchesUp)
				for _, service := range services() {
					if err := i.wrong(service, stopsAt+stopped+catchesUp-onTime); err != nil {
						t.Errorf("after %s has caught up, %s: %v", stopping, service, err)
					}
				}
				if letters := i.keep.Rows().DeadLetters; len(letters) > 0 {
					t.Errorf("%d dead letters, such as %s", len(letters), letters[0].Reason)
				}
				if err := i.trimmed(); err != nil {
					t.Error(err)
				}
				for _, service := range services() {
					i.stops[service]()
				}
				synctest.Wait()
			})
		})
	}
}

// trimmed says whether the log let go of what all had read, without which this shows little.
func (i *island) trimmed() error {
	for n := range 2 {
		recs := i.log.Records(bus.PartitionID{Topic: bus.Telemetry, Number: n})
		if len(recs) > 0 && recs[0].Position.Seq > 1 {
			return nil
		}
	}
	return errors.New("nothing of telemetry was trimmed")
}
