package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
)

// outboxMagic begins a checkpoint that holds publications before the state. A checkpoint without them is the state alone.
const outboxMagic = "MRO\x01"

var errOutbox = errors.New("outbox of a checkpoint: not the bytes that were written")

// appendOutbox appends to dst the publications that a restart must make again, if there are any, in front of the state: topic,
// origin and value of each, numbers as varints, texts behind their length.
func appendOutbox(dst []byte, all []Publication) []byte {
	n := 0
	for i := range all {
		if !all[i].Passing {
			n++
		}
	}
	if n == 0 {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, outboxMagic...), uint64(n))
	for i := range all {
		p := &all[i]
		if p.Passing {
			continue
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(p.Topic))), p.Topic...)
		dst = binary.AppendUvarint(dst, uint64(uint32(p.Record.Origin.Partition))) //nolint:gosec // partitions are small and not negative
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, p.Record.Origin.Seq), uint64(p.Record.Origin.Index))
		dst = append(binary.AppendUvarint(dst, uint64(len(p.Record.Value))), p.Record.Value...)
	}
	return dst
}

// keeps says whether a restart must make any of all again.
func keeps(all []Publication) bool {
	return slices.ContainsFunc(all, func(p Publication) bool { return !p.Passing })
}

// splitOutbox reads what appendOutbox wrote, and returns the state behind it. The publications alias checkpoint.
func splitOutbox(checkpoint []byte) (all []Publication, state []byte, err error) {
	if !strings.HasPrefix(string(checkpoint[:min(len(checkpoint), len(outboxMagic))]), outboxMagic) {
		return nil, checkpoint, nil
	}
	b, fault := checkpoint[len(outboxMagic):], false
	number := func(limit uint64) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > limit {
			fault = true
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() []byte {
		n := number(uint64(len(b)))
		if n > uint64(len(b)) {
			fault = true
			return nil
		}
		t := b[:n:n]
		b = b[n:]
		return t
	}
	const any64, any32, partitionsMax = ^uint64(0), uint64(^uint32(0)), 1 << 20
	for range number(uint64(len(checkpoint))) {
		p := Publication{Topic: string(text())}
		p.Record.Origin.Partition = int32(number(partitionsMax))                                  //nolint:gosec // bounded
		p.Record.Origin.Position = bus.Position{Seq: number(any64), Index: uint32(number(any32))} //nolint:gosec // bounded
		p.Record.Value = text()
		if fault {
			break
		}
		all = append(all, p)
	}
	if fault {
		return nil, nil, errOutbox
	}
	return all, b, nil
}

// publishAgain publishes what the last commit of the task's former life may not have come to publish. What is there twice, readers
// drop by its key.
func (s *share[Row]) publishAgain(ctx context.Context, all []Publication) error {
	if len(all) == 0 {
		return nil
	}
	s.out.Publish = append(s.out.Publish[:0], all...)
	err := s.publish(ctx)
	if err == nil {
		err = s.appendLetters(ctx) // of what the log can never take
	}
	clear(s.out.Publish)
	s.out.Publish, s.letters = s.out.Publish[:0], s.letters[:0]
	s.dirty = true // so that a commit empties the outbox
	if err != nil {
		return fmt.Errorf("publish what the last commit covers: %w", err)
	}
	return nil
}
