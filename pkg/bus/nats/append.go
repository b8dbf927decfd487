package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
)

// unknownFramesMax is how many appends of unknown outcome a partition remembers; the oldest is forgotten, and sent again it
// would be there twice.
const unknownFramesMax = 64

// unknownFrame is an append whose outcome nobody knows. When the same bytes come again they get the same message id, so that
// the server drops them if it has them. Only then: two appends of equal records are two.
type unknownFrame struct {
	hash  uint64
	bytes int
	msgID string
	until time.Time // when the server will have forgotten the id
}

// Append implements bus.Appender. What does not fit into one frame goes in several, one after the other.
func (l *Log) Append(ctx context.Context, id bus.PartitionID, recs []bus.Record) error {
	if err := l.append(ctx, id, recs); err != nil {
		return fmt.Errorf("append %d records to %s: %w", len(recs), id, err)
	}
	return nil
}

func (l *Log) append(ctx context.Context, id bus.PartitionID, recs []bus.Record) error {
	if err := l.fault(); err != nil {
		return err
	}
	p, err := l.partition(id)
	if err != nil {
		return err
	}
	for i := range recs {
		if n := len(recs[i].Value); n > l.cfg.RecordBytesMax {
			return fmt.Errorf("record %d has %d bytes, limit %d: %w", i, n, l.cfg.RecordBytesMax, bus.ErrTooLarge)
		}
	}
	buf, ok := l.frames.Get().(*frameBuffers)
	if !ok {
		buf = new(frameBuffers)
	}
	defer l.frames.Put(buf) // the client has copied it into its own by the time that publishing returns
	for done := 0; done < len(recs); {
		n := fitting(recs[done:], l.cfg.FrameBytesMax)
		buf.plain = AppendFrame(buf.plain[:0], recs[done:done+n])
		buf.packed = PackFrame(buf.packed[:0], buf.plain)
		err := l.appendFrame(ctx, p, buf.packed)
		switch {
		case err != nil && done > 0:
			// Must not read as "none was appended".
			return fmt.Errorf("%d records are on disk, then: %v", done, err) //nolint:errorlint // as said
		case err != nil:
			return err
		}
		l.metrics.Appended(n, len(buf.packed))
		done += n
	}
	return nil
}

// frameBuffers are the rooms in which a frame is made.
type frameBuffers struct{ plain, packed []byte }

func (l *Log) appendFrame(ctx context.Context, p *partition, frame []byte) error {
	msgID, repeated := p.recall(frame, l.cfg.Now())
	if !repeated {
		msgID = l.id + "." + strconv.FormatUint(l.sent.Add(1), 36)
	}
	until := l.cfg.Now().Add(l.cfg.DedupeWindow) // the server counts from when it has it
	err := l.publish(ctx, p, frame, msgID)
	if errors.Is(err, bus.ErrFull) && l.cfg.Trim && l.trimForRoom(ctx, p) {
		err = l.publish(ctx, p, frame, msgID)
	}
	switch {
	case err == nil:
		if repeated {
			p.forget(msgID)
		}
	case errors.Is(err, bus.ErrFull), errors.Is(err, bus.ErrTooLarge):
		l.metrics.Refused()
	default:
		l.metrics.Failed()
		if !repeated {
			p.remember(frame, msgID, until)
		}
	}
	return err
}

func (l *Log) publish(ctx context.Context, p *partition, frame []byte, msgID string) error {
	bounded, cause, cancel := l.bounded(ctx, publishTimeout)
	defer cancel()
	ack, err := l.js.PublishMsg(bounded, &nats.Msg{
		Subject: p.subject, Data: frame, Header: nats.Header{jetstream.MsgIDHeader: []string{msgID}},
	}, jetstream.WithExpectStream(p.stream), jetstream.WithRetryAttempts(0))
	if err == nil {
		p.reached(ack.Sequence)
		return nil
	}
	if why := cause(); why != nil {
		return fmt.Errorf("%w (%w)", why, err)
	}
	return classify(err)
}

// The server's error codes that mean that nothing was stored (errors.json of nats-server).
const (
	codeInsufficientResources = 10023
	codeStorageExceeded       = 10047
	codeMessageTooLarge       = 10054
	codeStoreFailed           = 10077
)

// classify tells what the server refused from what nobody knows.
func classify(err error) error {
	var api *jetstream.APIError
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: the server's max_payload is smaller than frame_bytes_max: %w", bus.ErrTooLarge, err)
	}
	if !errors.As(err, &api) {
		return err
	}
	switch int(api.ErrorCode) {
	case codeMessageTooLarge:
		return fmt.Errorf("%w: %w", bus.ErrTooLarge, err)
	case codeInsufficientResources, codeStorageExceeded:
		return fmt.Errorf("%w: %w", bus.ErrFull, err)
	case codeStoreFailed:
		if strings.Contains(api.Description, "maximum bytes exceeded") || strings.Contains(api.Description, "no space left") {
			return fmt.Errorf("%w: %w", bus.ErrFull, err)
		}
	}
	return err
}

// recall returns the id under which frame was sent before with an unknown outcome.
func (p *partition) recall(frame []byte, now time.Time) (msgID string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.unknown) > 0 && now.After(p.unknown[0].until) {
		p.unknown = p.unknown[1:]
	}
	if len(p.unknown) == 0 {
		return "", false
	}
	hash := xxhash.Sum64(frame)
	for _, u := range p.unknown {
		if u.hash == hash && u.bytes == len(frame) {
			return u.msgID, true
		}
	}
	return "", false
}

func (p *partition) remember(frame []byte, msgID string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unknown) >= unknownFramesMax {
		p.unknown = p.unknown[1:]
	}
	p.unknown = append(p.unknown, unknownFrame{hash: xxhash.Sum64(frame), bytes: len(frame), msgID: msgID, until: until})
}

func (p *partition) forget(msgID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, u := range p.unknown {
		if u.msgID == msgID {
			p.unknown = append(p.unknown[:i:i], p.unknown[i+1:]...)
			return
		}
	}
}
