package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// answer is what came of a SUBSCRIBE or UNSUBSCRIBE.
type answer struct {
	reasons []Reason
	err     error
}

// Subscribe asks for what the filters take in and returns the server's answer to each, in their order: the QoS granted, or why
// not. When one is refused the error is a *Refused with the first such reason, and the others stand.
func (c *Client) Subscribe(ctx context.Context, subs ...Subscription) ([]Reason, error) {
	return c.call(ctx, TypeSuback, len(subs), func(dst []byte, id uint16) ([]byte, error) {
		return AppendSubscribe(dst, c.version, &Subscribe{PacketID: id, Subscriptions: subs})
	})
}

// Unsubscribe ends subscriptions and returns the answer to each, in MQTT 5; see Subscribe.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]Reason, error) {
	return c.call(ctx, TypeUnsuback, len(filters), func(dst []byte, id uint16) ([]byte, error) {
		return AppendUnsubscribe(dst, c.version, &Unsubscribe{PacketID: id, Filters: filters})
	})
}

func (c *Client) call(ctx context.Context, want Type, n int, build func([]byte, uint16) ([]byte, error)) ([]Reason, error) {
	id, reply, err := c.ask(build)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-reply:
		if a.err == nil && len(a.reasons) != n && (want == TypeSuback || c.version == Version5) {
			a.err = violation(want, fmt.Sprintf("identifier %d: %d reason codes for %d filters", id, len(a.reasons), n))
		}
		if i := slices.IndexFunc(a.reasons, Reason.Failed); i >= 0 && a.err == nil {
			a.err = &Refused{Packet: want, Code: a.reasons[i], Text: fmt.Sprintf("filter %d", i)}
		}
		return a.reasons, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("mqtt: wait for %v: %w", want, context.Cause(ctx))
	}
}

// ask puts a request in line and says where its answer will come.
func (c *Client) ask(build func([]byte, uint16) ([]byte, error)) (uint16, <-chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.down(); err != nil {
		return 0, nil, err
	}
	if len(c.calls) >= math.MaxUint16-MaxInflightLimit {
		return 0, nil, errors.New("mqtt: too many SUBSCRIBE and UNSUBSCRIBE without an answer")
	}
	for {
		c.nextCall = c.nextCall%(math.MaxUint16-MaxInflightLimit) + 1
		if _, used := c.calls[MaxInflightLimit+c.nextCall]; !used {
			break
		}
	}
	id := MaxInflightLimit + c.nextCall
	out, err := build(c.out, id)
	if err != nil {
		return 0, nil, err
	}
	c.out = out
	reply := make(chan answer, 1) // one answer, which may come when nobody waits any more
	c.calls[id] = reply
	c.work.Signal()
	return id, reply, nil
}

func (c *Client) takeAnswer(p Packet) error {
	s, err := ParseSuback(p.Type, p.Body, c.version)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	reply, ok := c.calls[s.PacketID]
	if !ok {
		return violation(p.Type, fmt.Sprintf("identifier %d waits for no such packet", s.PacketID))
	}
	delete(c.calls, s.PacketID)
	reply <- answer{reasons: s.Reasons}
	return nil
}
