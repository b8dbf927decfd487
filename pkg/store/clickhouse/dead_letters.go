package clickhouse

import (
	"context"
	"time"

	"github.com/millrace/millrace/pkg/store"
)

// deadLetterStore keeps dead_letters. The note that a letter was put back is its row once more, which replaces the one before.
type deadLetterStore struct{ *lane }

func deadLetterColumns() []columnType {
	return []columnType{
		{"topic", kindText},
		{"worker", kindText},
		{"reason", kindText},
		{"payload", kindText},
		{"received_at", kindTime},
		{"tenant", kindText},
		{"device_id", kindText},
		{"credential", kindText},
		{"partition", "Int32"},
		{"position", kindText},
		{"payload_bytes", kindTextNull},
		{"at_partition", "Int32"},
		{"at_position", "Int64"},
		{"context", kindText},
		{"replayed_at", kindTimeNull},
		{"replayed_by", kindText},
	}
}

type deadLetterBlock struct {
	topics, workers, reasons, payloads, tenants, devices, credentials, positions []string
	contexts, replayers                                                          []string
	received                                                                     []time.Time
	replayed                                                                     []*time.Time
	partitions, atPartitions                                                     []int32
	exact                                                                        []*string
	atPositions                                                                  []int64
}

// Write implements store.Writer.
func (s *deadLetterStore) Write(ctx context.Context, commit store.Commit, rows []store.DeadLetterRow) error {
	return s.write(ctx, commit, len(rows), func(ctx context.Context, w *writing) error {
		var b deadLetterBlock
		for i := range rows {
			if err := b.add(w, &rows[i]); err != nil {
				return err
			}
		}
		return s.db.insert(ctx, "dead_letters", deadLetterColumns(), w.token("dead_letters", len(rows)), []any{
			b.topics, b.workers, b.reasons, b.payloads, b.received, b.tenants, b.devices, b.credentials, b.partitions, b.positions, b.exact,
			b.atPartitions, b.atPositions, b.contexts, b.replayed, b.replayers,
		})
	})
}

func (b *deadLetterBlock) add(w *writing, d *store.DeadLetterRow) error {
	at, err := store.PackPosition(d.At.Position)
	if err != nil {
		return err
	}
	w.mixOrigin(d.At.Partition, at)
	payload, escaped := store.PayloadText(d.Payload)
	var exact *string
	if escaped {
		s := alias(d.Payload)
		exact = &s
	}
	b.topics, b.workers, b.reasons = append(b.topics, text(d.Topic)), append(b.workers, text(d.Worker)), append(b.reasons, text(d.Reason))
	b.payloads, b.exact = append(b.payloads, payload), append(b.exact, exact)
	b.received = append(b.received, d.ReceivedAt.Std())
	b.tenants, b.devices = append(b.tenants, text(d.Tenant)), append(b.devices, text(d.DeviceID))
	b.credentials, b.positions = append(b.credentials, text(d.Credential)), append(b.positions, text(d.Position))
	b.partitions = append(b.partitions, d.Partition)
	b.atPartitions, b.atPositions = append(b.atPartitions, d.At.Partition), append(b.atPositions, at)
	b.contexts, b.replayers = append(b.contexts, text(d.Context)), append(b.replayers, text(d.ReplayedBy))
	var replayed *time.Time
	if d.ReplayedAt != 0 {
		t := d.ReplayedAt.Std()
		replayed = &t
	}
	b.replayed = append(b.replayed, replayed)
	return nil
}
