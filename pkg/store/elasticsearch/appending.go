package elasticsearch

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// appending keeps rows that are created once and hardly ever change: logs, history and dead letters. The origin is the _id, so a row
// that comes again meets itself (409) and counts as stored.
type appending[Row any] struct {
	book
	// why returns why a row can never be stored, or "".
	why func(r *Row) string
	// key returns the row's identity and the times that choose its index.
	key func(r *Row) (origin bus.Origin, event, arrival telemetry.Time)
	// again, if set, says that the row takes the place of one that is there.
	again func(r *Row) bool
	// encode appends the members of the document, each with a comma behind it.
	encode func(dst []byte, r *Row) []byte
}

// Write implements store.Writer.
func (s *appending[Row]) Write(ctx context.Context, commit store.Commit, rows []Row) error {
	if err := refuseAhead(len(rows), func(i int) string { return s.why(&rows[i]) }); err != nil {
		return err
	}
	return s.rowsFirst(ctx, commit, func() error {
		b := s.db.newBulk(ctx)
		index := s.db.name(s.table) + "-"
		var day, id []byte
		for i := range rows {
			origin, event, arrival := s.key(&rows[i])
			day, id = appendDay(day[:0], event, arrival), appendOrigin(id[:0], origin)
			action := "create"
			if s.again != nil && s.again(&rows[i]) {
				action = "index"
			}
			b.end(closeDocument(s.encode(b.begin(action, index, day, id, i), &rows[i])))
		}
		return b.wait().fault()
	})
}

// history is appending with the Flush that a HistoryWriter has; nothing is ever held back.
type history struct {
	*appending[store.MessageRow]
}

// Flush implements store.Buffered: what Write has returned is on disk.
func (history) Flush(context.Context) error { return nil }

func (db *DB) newLogs() *appending[store.MessageRow] {
	return &appending[store.MessageRow]{book: book{db, store.TableLogs}, why: messageFault, key: messageKey, encode: appendLog}
}

func (db *DB) newHistory() history {
	return history{&appending[store.MessageRow]{book: book{db, store.TableMessages}, why: messageFault, key: messageKey, encode: appendMessage}}
}

func (db *DB) newDeadLetters() *appending[store.DeadLetterRow] {
	return &appending[store.DeadLetterRow]{
		book: book{db, store.TableDeadLetters},
		why:  func(*store.DeadLetterRow) string { return "" },
		key: func(r *store.DeadLetterRow) (bus.Origin, telemetry.Time, telemetry.Time) {
			return r.At, r.ReceivedAt, r.ReceivedAt
		},
		again:  func(r *store.DeadLetterRow) bool { return r.ReplayOf != "" },
		encode: appendDeadLetter,
	}
}

// messageFault refuses what no column can hold.
func messageFault(m *store.MessageRow) string {
	if _, err := store.PackPosition(m.Origin.Position); err != nil {
		return err.Error()
	}
	if m.HasValue && !finite(m.Value) {
		return fmt.Sprintf("value %v, want a finite number", m.Value)
	}
	return ""
}

func messageKey(m *store.MessageRow) (origin bus.Origin, event, arrival telemetry.Time) {
	return m.Origin, m.EventTime, m.IngestTime
}

// addOrigin adds the columns that name a row's record, which messageFault has found to fit.
func addOrigin(dst []byte, o bus.Origin) []byte {
	packed, err := store.PackPosition(o.Position)
	if err != nil {
		packed = -1
	}
	return addWhole(addWhole(dst, fieldPartition, int64(o.Partition)), fieldPosition, packed)
}

// addWho adds what every message has.
func addWho(dst []byte, m *store.MessageRow) []byte {
	dst = append(appendTime(addName(dst, fieldTime), m.EventTime), ',')
	dst = append(appendTime(addName(dst, fieldArrival), m.IngestTime), ',')
	dst = addText(dst, fieldTenant, m.Tenant)
	dst = addText(dst, fieldDevice, m.DeviceID)
	dst = addText(dst, fieldType, m.DeviceType)
	dst = addText(dst, fieldMessageID, m.MessageID)
	return addOrigin(dst, m.Origin)
}

func appendLog(dst []byte, m *store.MessageRow) []byte {
	dst = addWho(dst, m)
	dst = addText(dst, fieldLevel, m.Severity.Name())
	dst = addText(dst, fieldLogger, m.LogSource)
	return addText(dst, fieldText, m.Text)
}

// addChannel adds what a message says of its channel.
func addChannel(dst []byte, m *store.MessageRow) []byte {
	dst = addText(dst, fieldChannel, m.ChannelKey)
	dst = addText(dst, fieldChannelType, m.ChannelType)
	dst = append(appendTextBytes(addName(dst, fieldChannelValue), m.ChannelValue), ',')
	if m.HasValue {
		dst = addNumber(dst, fieldValue, m.Value)
	}
	return dst
}

func appendMessage(dst []byte, m *store.MessageRow) []byte {
	dst = addChannel(addWho(dst, m), m)
	dst = addText(dst, fieldKind, store.KindName(m.Kind))
	dst = addTime(dst, fieldDeviceTime, m.DeviceTime)
	if len(m.Properties) > 0 {
		dst = append(appendTextBytes(addName(dst, fieldProperties), store.AppendProperties(nil, m.Properties)), ',')
	}
	if len(m.Attributes) > 0 {
		dst = append(appendTextBytes(addName(dst, fieldAttributes), m.Attributes), ',')
	}
	dst = addText(dst, fieldSource, m.Source)
	dst = addText(dst, fieldCredential, m.Credential)
	return addText(dst, fieldCodec, m.Codec)
}

func appendDeadLetter(dst []byte, d *store.DeadLetterRow) []byte {
	dst = append(appendTime(addName(dst, fieldTime), d.ReceivedAt), ',')
	dst = addText(dst, fieldTopic, d.Topic)
	dst = addText(dst, fieldWorker, d.Worker)
	dst = addText(dst, fieldReason, d.Reason)
	dst = addText(dst, fieldTenant, d.Tenant)
	dst = addText(dst, fieldDevice, d.DeviceID)
	dst = addText(dst, fieldCredential, d.Credential)
	dst = addWhole(dst, fieldLetterPart, int64(d.Partition))
	dst = addText(dst, fieldLetterPlace, d.Position)
	dst = append(addName(dst, fieldRow), '"')
	dst = append(appendOrigin(dst, d.At), '"', ',')
	dst = addText(dst, fieldContext, d.Context)
	dst = addTime(dst, fieldReplayedAt, d.ReplayedAt)
	dst = addText(dst, fieldReplayedBy, d.ReplayedBy)
	return addPayload(dst, d.Payload)
}

// addPayload adds a payload as text, and beside it, where that is escaped, the exact bytes.
func addPayload(dst, payload []byte) []byte {
	text, escaped := store.PayloadText(payload)
	dst = append(appendText(addName(dst, fieldPayload), text), ',')
	if !escaped {
		return dst
	}
	dst = append(addName(dst, fieldPayloadBytes), '"')
	dst = base64.StdEncoding.AppendEncode(dst, payload)
	return append(dst, '"', ',')
}
