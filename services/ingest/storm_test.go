package ingest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/mqtt"
)

// TestWhatWasAcknowledgedIsThereWhateverHappens lets clients that share identifiers evict each other, vanish and come back,
// over a log that is slow and now and then full: what was acknowledged is there, and nothing that was never sent.
func TestWhatWasAcknowledgedIsThereWhateverHappens(t *testing.T) {
	r := start(t, setup{})
	var faults sync.Mutex
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	r.log.SetFaults(mem.Faults{BeforeAppend: func(ctx context.Context, _ bus.PartitionID, _ []bus.Record) error {
		faults.Lock()
		dice := rng.IntN(200)
		faults.Unlock()
		if dice == 0 {
			return bus.ErrFull
		}
		wait := time.NewTimer(time.Duration(dice) * 10 * time.Microsecond)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		return ctx.Err()
	}})
	var mu sync.Mutex
	sent, acked := map[string]bool{}, map[string]bool{}
	var group sync.WaitGroup
	for worker := range 12 {
		group.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(worker), 7))
			for round := range 15 {
				o := mqtt.ClientOptions{
					Addr: r.addrs["mqtt"], ClientID: fmt.Sprint("c", worker%8), CleanStart: dice.IntN(2) == 0, MaxInflight: 20,
					Version: []mqtt.Version{mqtt.Version311, mqtt.Version5}[dice.IntN(2)],
					Will:    &mqtt.Will{Topic: "devices/w/channels/gone", Payload: []byte("x")},
				}
				c, err := mqtt.Dial(context.Background(), o)
				if err != nil {
					continue // evicted before it was in
				}
				for i := range 1 + dice.IntN(40) {
					value := fmt.Sprintf("%d.%d.%d", worker, round, i)
					qos := byte(1)
					if !c.Connack().SessionPresent && dice.IntN(3) == 0 { // the client has no QoS 2 in a session of before
						qos = 2
					}
					mu.Lock()
					sent[value] = true
					mu.Unlock()
					err := c.PublishAsync(fmt.Sprintf("devices/d%d/channels/v", dice.IntN(9)), []byte(value), qos, nil, func(err error) {
						mu.Lock()
						defer mu.Unlock()
						if err == nil {
							acked[value] = true
						}
					})
					if err != nil {
						break
					}
				}
				switch dice.IntN(3) {
				case 0:
					_ = c.Drain(context.Background())
				case 1:
					_ = c.Disconnect(context.Background())
				}
				_ = c.Close()
				<-c.Done()
			}
		})
	}
	group.Wait()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, m := range r.messages(bus.Ingested) {
		if m.ChannelKey == "v" {
			got[string(m.ChannelValue)] = true
		}
	}
	for value := range acked {
		if !got[value] {
			t.Errorf("%s was acknowledged and is not there", value)
		}
	}
	for value := range got {
		if !sent[value] {
			t.Errorf("%s is there and was never sent", value)
		}
	}
	if len(acked) < 20 {
		t.Errorf("only %d of %d messages were acknowledged", len(acked), len(sent))
	}
	t.Logf("%d sent, %d acknowledged, %d there", len(sent), len(acked), len(got))
}
