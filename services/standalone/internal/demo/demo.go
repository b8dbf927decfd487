package demo

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

// Options say where the demo's devices send to.
type Options struct {
	Addr string // host:port of the MQTT listener
	Seed uint64 // of chance; 0 draws one
	Log  *slog.Logger
	Now  func() time.Time
}

// Run lets every device connect and send with QoS 1 until ctx ends; then it waits for the acknowledgements that are still
// due and returns. A device whose connection is lost connects again.
func Run(ctx context.Context, o Options) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64() //nolint:gosec // a simulation, not a secret
	}
	var all sync.WaitGroup
	for _, d := range fleet(o.Seed) {
		all.Go(func() { o.live(ctx, d) })
	}
	all.Wait()
}

// live is a device's life: connect, speak, connect again.
func (o Options) live(ctx context.Context, d device) {
	const pause = time.Second
	for n := 0; ctx.Err() == nil; {
		err := o.session(ctx, d, &n)
		if ctx.Err() != nil {
			return
		}
		o.Log.Warn("demo device lost its connection", "device", d.id, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// session is one connection. n counts what the device has said over all of them.
func (o Options) session(ctx context.Context, d device, n *int) error {
	c, err := mqtt.Dial(ctx, mqtt.ClientOptions{Addr: o.Addr, ClientID: d.id, Username: d.id, CleanStart: true})
	if err != nil {
		return err
	}
	defer o.leave(ctx, c)
	beat := time.NewTicker(d.every)
	defer beat.Stop()
	for {
		for _, p := range d.say(o.Now(), *n) {
			// A refused message is one of the malformed ones, which are meant to be refused.
			if err := c.PublishAsync(p.topic, p.payload, 1, nil, nil); err != nil {
				return fmt.Errorf("publish to %s: %w", p.topic, err)
			}
		}
		*n++
		select {
		case <-ctx.Done():
			return nil
		case <-c.Done():
			return c.Err()
		case <-beat.C:
		}
	}
}

// leave waits for what is not acknowledged and says goodbye, also when ctx has ended.
func (o Options) leave(ctx context.Context, c *mqtt.Client) {
	const grace = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := c.Drain(ctx); err != nil {
		o.Log.Debug("demo device left without its last acknowledgements", "error", err)
	}
	if err := c.Disconnect(ctx); err != nil {
		o.Log.Debug("demo device was cut off", "error", err)
	}
}
