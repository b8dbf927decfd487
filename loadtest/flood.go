package loadtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

// Flood says how one device floods an instance while others send now and then.
type Flood struct {
	MQTT        string        // host:port
	Devices     int           // honest ones, with a connection each
	Every       time.Duration // between two messages of an honest device
	Connections int           // of the device that floods
	Inflight    int           // unacknowledged messages of each of these
	For         time.Duration // each of the two parts: alone, and under the flood
	Now         func() time.Time
}

// Flooded is what came of a Flood: how long honest messages took to be acknowledged, and what became of the flood.
type Flooded struct {
	Alone, Under []time.Duration // sorted
	Unanswered   int             // honest messages; each is a fault of the instance
	Taken        int64           // of the flood
	Refused      int64           // of the flood, by 0x97 or with their connection
}

// Quantile returns the q-th quantile of sorted durations, 0 of none.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))]
}

// Run measures the honest devices alone, then under the flood.
func (f Flood) Run(ctx context.Context) (Flooded, error) {
	var got Flooded
	var err error
	if got.Alone, got.Unanswered, err = f.honest(ctx); err != nil {
		return got, err
	}
	flooding, stop := context.WithCancel(ctx)
	defer stop()
	var taken, refused atomic.Int64
	var floods sync.WaitGroup
	for i := range f.Connections {
		floods.Go(func() { f.flood(flooding, i, &taken, &refused) })
	}
	under, unanswered, err := f.honest(ctx)
	stop()
	floods.Wait()
	got.Under, got.Taken, got.Refused = under, taken.Load(), refused.Load()
	got.Unanswered += unanswered
	return got, err
}

// flood sends as one device on one connection, as fast as it may, and again when it is cut.
func (f Flood) flood(ctx context.Context, number int, taken, refused *atomic.Int64) {
	var body []byte
	for n := 0; ctx.Err() == nil; {
		c, err := mqtt.Dial(ctx, mqtt.ClientOptions{
			Addr: f.MQTT, ClientID: fmt.Sprintf("millrace-flood-%d", number), CleanStart: true, MaxInflight: f.Inflight,
		})
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		for err == nil && ctx.Err() == nil {
			body = Message(body[:0], floodDevice, n, f.Now())
			n++
			err = c.PublishAsync("devices/load-99999/messages/events/", body, 1, nil, func(err error) {
				if err != nil {
					refused.Add(1)
				} else {
					taken.Add(1)
				}
			})
		}
		stop()
		_ = c.Close() // nothing is to be done about an error
		<-c.Done()
	}
}

const floodDevice = 99_999

// honest lets the honest devices send for a while and returns how long their messages took, sorted.
func (f Flood) honest(ctx context.Context) (took []time.Duration, unanswered int, err error) {
	ctx, stop := context.WithTimeout(ctx, f.For)
	defer stop()
	var mu sync.Mutex
	var all sync.WaitGroup
	errs := make([]error, f.Devices)
	for i := range f.Devices {
		all.Go(func() {
			own, lost, err := f.device(ctx, i)
			errs[i] = err
			mu.Lock()
			defer mu.Unlock()
			took, unanswered = append(took, own...), unanswered+lost
		})
	}
	all.Wait()
	slices.Sort(took)
	return took, unanswered, errors.Join(errs...)
}

// device is one honest device: it sends one message after the other until ctx ends, waiting for each acknowledgement.
func (f Flood) device(ctx context.Context, number int) (took []time.Duration, unanswered int, err error) {
	const patience = time.Minute
	life := context.WithoutCancel(ctx)
	c, err := mqtt.Dial(life, mqtt.ClientOptions{Addr: f.MQTT, ClientID: fmt.Sprintf("millrace-honest-%d", number), CleanStart: true})
	if err != nil {
		return nil, 0, fmt.Errorf("connect honest device %d: %w", number, err)
	}
	defer func() {
		_ = c.Close() // its messages are acknowledged
		<-c.Done()
	}()
	topic := string(append(AppendDevice([]byte("devices/"), number), "/messages/events/"...))
	tick := time.NewTicker(f.Every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return took, unanswered, nil
		case <-tick.C:
		}
		began := f.Now()
		once, cancel := context.WithTimeout(life, patience)
		err := c.Publish(once, topic, Message(nil, number, n, began), 1)
		cancel()
		if err != nil {
			return took, unanswered + 1, fmt.Errorf("message %d of honest device %d, after %v: %w", n, number, f.Now().Sub(began), err)
		}
		took = append(took, f.Now().Sub(began))
	}
}
