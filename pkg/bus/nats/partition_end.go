package nats

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
)

// End implements bus.Partition.
func (v *view) End(ctx context.Context) (bus.Position, error) {
	end, err := v.end(ctx)
	if err != nil {
		return bus.Position{}, fmt.Errorf("find the end of %s: %w", v.part.id, err)
	}
	return end, nil
}

// end asks the server once, and once more where the newest frame is another than at the last call: how many records it has. A
// sequence keeps its frame as long as the stream lives.
func (v *view) end(ctx context.Context) (bus.Position, error) {
	if err := v.log.fault(); err != nil {
		return bus.Position{}, err
	}
	bounded, cause, cancel := v.log.bounded(ctx, requestTimeout)
	defer cancel()
	stream, err := v.log.js.Stream(bounded, v.part.stream)
	if err != nil {
		return bus.Position{}, errors.Join(cause(), err)
	}
	info := stream.CachedInfo()
	seq := info.State.LastSeq
	if seq == 0 {
		return bus.Position{}, nil
	}
	last := streamEnd{made: info.Created, seq: seq, at: bus.Position{Seq: seq}}
	if known := v.part.end.Load(); known != nil && known.made.Equal(last.made) && known.seq == seq {
		return known.at, nil
	}
	msg, err := stream.GetMsg(bounded, seq)
	for range behindMax { // any replica answers, also one that is behind
		if !errors.Is(err, jetstream.ErrMsgNotFound) || info.State.FirstSeq > seq || v.log.cfg.Replicas == 1 || !pause(bounded, askAgain) {
			break
		}
		msg, err = stream.GetMsg(bounded, seq)
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) { // purged: only that it is past everything counts
		return last.at, nil
	}
	if err != nil {
		return bus.Position{}, errors.Join(cause(), err)
	}
	if real, ok := fillerAfter(msg); ok { // the newest record is further back
		if last.at = (bus.Position{Seq: real}); real > 0 {
			if msg, err = stream.GetMsg(bounded, real); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				return bus.Position{}, errors.Join(cause(), err)
			}
		}
	}
	if msg != nil {
		if recs, err := ParseFrame(nil, msg.Data); err == nil && len(recs) > 0 { // else a foreign message, which is one record
			last.at.Index = recs[len(recs)-1].Position.Index
		}
	}
	v.part.end.Store(&last)
	return last.at, nil
}

// Holds reports whether the partition has any record that was not trimmed away.
func (v *view) Holds(ctx context.Context) (bool, error) {
	state, err := v.log.state(ctx, v.part)
	if err != nil {
		return false, fmt.Errorf("find what %s holds: %w", v.part.id, err)
	}
	return state.Msgs > 0, nil
}

// state asks the server once what it has of p.
func (l *Log) state(ctx context.Context, p *partition) (jetstream.StreamState, error) {
	bounded, cause, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	stream, err := l.js.Stream(bounded, p.stream)
	if err != nil {
		return jetstream.StreamState{}, errors.Join(cause(), err)
	}
	return stream.CachedInfo().State, nil
}

func (v *view) lastSequence(ctx context.Context) (uint64, error) {
	stream, err := v.log.js.Stream(ctx, v.part.stream)
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq, nil
}
