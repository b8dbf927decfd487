package move

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/standalone/internal/scan"
)

// reading yields the units of a chunk in an order that is the same each time. A unit is one row, or the rows that stand for one; it is
// the caller's.
type reading[Row any] func(ctx context.Context, c chunk) iter.Seq2[[]Row, error]

// query reads units of one row from the database. The query has %s where the condition of the chunk on column belongs.
func query[Row any](s *Source, text, column string, unit func(row []any) ([]Row, error)) reading[Row] {
	return func(ctx context.Context, c chunk) iter.Seq2[[]Row, error] {
		return func(yield func([]Row, error) bool) {
			where, args := "true", []any(nil)
			if column != "" {
				where, args = column+" >= make_timestamp_ns(?) AND "+column+" < make_timestamp_ns(?)", []any{int64(c.from), int64(c.to)}
			}
			for row, err := range s.rows(ctx, fmt.Sprintf(text, where), args...) {
				var rows []Row
				if err == nil {
					rows, err = unit(row)
				}
				if !yield(rows, err) || err != nil {
					return
				}
			}
		}
	}
}

// moved returns the origin that a row has in the target.
func moved(o bus.Origin) bus.Origin {
	if o.Partition >= 0 { // else it was moved in before
		o.Partition = -1 - o.Partition
	}
	return o
}

func origin(partition, position any) bus.Origin {
	return bus.Origin{Partition: scan.As[int32](partition), Position: store.UnpackPosition(scan.As[int64](position))}
}

const stateQuery = `SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id,
	origin_partition, origin_position FROM device_state WHERE %s ORDER BY tenant, device_id, channel_key`

func stateUnit(r []any) ([]store.MessageRow, error) {
	value, known := r[6].(float64)
	return []store.MessageRow{{
		Message: telemetry.Message{
			Kind: telemetry.KindChannel, Tenant: scan.As[string](r[0]), DeviceID: scan.As[string](r[1]), DeviceType: scan.As[string](r[2]), ChannelKey: scan.As[string](r[3]),
			ChannelType: scan.As[string](r[4]), ChannelValue: []byte(scan.As[string](r[5])), Value: value, HasValue: known,
			EventTime: scan.Time(r[7]), IngestTime: scan.Time(r[8]), MessageID: scan.As[string](r[9]),
		},
		Origin: moved(origin(r[10], r[11])),
	}}, nil
}

const deviceQuery = `SELECT tenant, device_id, device_type, first_seen, last_seen, connected, connected_since, disconnected_at, disconnect_reason,
	address, client_id, protocol, credential, session_partition, session_position FROM internal.devices WHERE %s ORDER BY tenant, device_id`

// deviceUnit returns the messages from which a store makes the row of a device: what was first and last heard of it, and the begin and
// the end of its newest connection.
func deviceUnit(r []any) ([]store.MessageRow, error) {
	heard := func(kind telemetry.Kind, event, ingest telemetry.Time) store.MessageRow {
		return store.MessageRow{Message: telemetry.Message{
			Kind: kind, Tenant: scan.As[string](r[0]), DeviceID: scan.As[string](r[1]), EventTime: event, IngestTime: ingest,
		}}
	}
	// A store keeps the device's type from the newest message that names one.
	first, last, since, gone := scan.Time(r[3]), scan.Time(r[4]), scan.Time(r[6]), scan.Time(r[7])
	var unit []store.MessageRow
	if first != 0 {
		unit = append(unit, heard(telemetry.KindLog, first, first), heard(telemetry.KindLog, last, last))
	}
	session := moved(origin(r[13], r[14]))
	say := func(event telemetry.Time, at bus.Origin, text map[string]any) error {
		value, err := json.Marshal(text)
		if err != nil {
			return fmt.Errorf("session of %s: %w", r[1], err)
		}
		m := heard(telemetry.KindSession, event, last)
		m.ChannelValue, m.Origin, m.Credential = value, at, scan.As[string](r[12])
		unit = append(unit, m)
		return nil
	}
	connected, known := r[5].(bool)
	if since != 0 {
		begin := session
		if !connected { // of the same moment at least, and before the end
			begin.Position = bus.Position{Seq: session.Seq, Index: 0}
			if session.Index == 0 && session.Seq > 0 {
				begin.Seq--
			}
		}
		err := say(since, begin, map[string]any{"connected": true, "address": r[9], "client_id": r[10], "protocol": r[11]})
		if err != nil {
			return nil, err
		}
	}
	if known && !connected {
		if err := say(gone, session, map[string]any{"connected": false, "reason": r[8]}); err != nil {
			return nil, err
		}
	}
	if len(unit) == 0 { // a device of which nothing is known but its name
		unit = append(unit, heard(telemetry.KindLog, 0, 0))
	}
	unit[len(unit)-1].DeviceType = scan.As[string](r[2]) // the newest word counts
	return unit, nil
}

const logQuery = `SELECT tenant, device_id, device_type, severity, source, message, event_time, ingest_time, message_id, origin_partition, origin_position
	FROM logs WHERE %s ORDER BY event_time, origin_partition, origin_position`

func logUnit(r []any) ([]store.MessageRow, error) {
	severity, ok := telemetry.ParseSeverity(scan.As[string](r[3]))
	if !ok {
		return nil, fmt.Errorf("logs: severity %q of message %v is not known", r[3], r[8])
	}
	return []store.MessageRow{{
		Message: telemetry.Message{
			Kind: telemetry.KindLog, Tenant: scan.As[string](r[0]), DeviceID: scan.As[string](r[1]), DeviceType: scan.As[string](r[2]), Severity: severity,
			LogSource: scan.As[string](r[4]), Text: scan.As[string](r[5]), EventTime: scan.Time(r[6]), IngestTime: scan.Time(r[7]), MessageID: scan.As[string](r[8]),
		},
		Origin: moved(origin(r[9], r[10])),
	}}, nil
}

// Rows that are equal in all of this are the same to everybody, so their order does not matter.
const letterQuery = `SELECT topic, worker, reason, payload, received_at, tenant, device_id, credential, partition, position, payload_bytes,
	context, replayed_at, replayed_by
	FROM dead_letters WHERE %s ORDER BY received_at, topic, worker, partition, position, tenant, device_id, reason, payload, credential, payload_bytes`

// letterUnit leaves the identity to be numbered, since the database keeps none.
func letterUnit(r []any) ([]store.DeadLetterRow, error) {
	payload, escaped := r[10].([]byte)
	if !escaped {
		payload = []byte(scan.As[string](r[3]))
	}
	return []store.DeadLetterRow{{DeadLetter: telemetry.DeadLetter{
		Topic: scan.As[string](r[0]), Worker: scan.As[string](r[1]), Reason: scan.As[string](r[2]), Payload: payload, ReceivedAt: scan.Time(r[4]),
		Tenant: scan.As[string](r[5]), DeviceID: scan.As[string](r[6]), Credential: scan.As[string](r[7]), Partition: scan.As[int32](r[8]), Position: scan.As[string](r[9]),
		Context: scan.As[string](r[11]), ReplayedAt: scan.Time(r[12]), ReplayedBy: scan.As[string](r[13]),
	}}}, nil
}

// numbered gives each dead letter the identity that its place among all has.
func numbered(read reading[store.DeadLetterRow], chunks []chunk) reading[store.DeadLetterRow] {
	return func(ctx context.Context, c chunk) iter.Seq2[[]store.DeadLetterRow, error] {
		return func(yield func([]store.DeadLetterRow, error) bool) {
			var n uint64
			for _, before := range chunks {
				if before == c {
					break
				}
				n += before.units
			}
			for unit, err := range read(ctx, c) {
				for i := range unit {
					n++
					unit[i].At = bus.Origin{Partition: -1, Position: bus.Position{Seq: n}}
				}
				if !yield(unit, err) {
					return
				}
			}
		}
	}
}

const aggregateQuery = `SELECT a.tenant, a.device_id, a.channel_key, a.window_start, a.window_length_ns, a.count, a.min, a.max, a.sum, a.first, a.last,
	a.p50, a.p95, a.p99, a.revision, a.device_type, a.first_time, a.last_time, s.state, s.state_until
	FROM aggregates a LEFT JOIN internal.aggregate_states s ON s.tenant = a.tenant AND s.device_id = a.device_id AND s.channel_key = a.channel_key
		AND s.window_start = a.window_start AND s.window_length_ns = a.window_length_ns
	WHERE %s ORDER BY a.window_start, a.window_length_ns, a.tenant, a.device_id, a.channel_key`

func aggregateUnit(r []any) ([]store.AggregateRow, error) {
	return []store.AggregateRow{{
		Aggregate: telemetry.Aggregate{
			Tenant: scan.As[string](r[0]), DeviceID: scan.As[string](r[1]), ChannelKey: scan.As[string](r[2]), WindowStart: scan.Time(r[3]), WindowLength: scan.As[int64](r[4]),
			Count: uint64(scan.As[int64](r[5])), Min: scan.As[float64](r[6]), Max: scan.As[float64](r[7]), Sum: scan.As[float64](r[8]), First: scan.As[float64](r[9]), //nolint:gosec // a count
			Last: scan.As[float64](r[10]), P50: scan.As[float64](r[11]), P95: scan.As[float64](r[12]), P99: scan.As[float64](r[13]), Revision: uint32(scan.As[int32](r[14])), //nolint:gosec // it rises from 0
			DeviceType: scan.As[string](r[15]), FirstTime: scan.Time(r[16]), LastTime: scan.Time(r[17]), Final: true,
		},
		State: scan.As[[]byte](r[18]), StateUntil: scan.Time(r[19]),
	}}, nil
}

const alarmQuery = `SELECT alarm_id, tenant, rule, device_id, channel_key, severity, state, value, raised_at, acked_at, cleared_at, detail, previous_value,
	revision FROM alarms WHERE %s ORDER BY alarm_id`

func alarmUnit(r []any) ([]telemetry.Alarm, error) {
	a := telemetry.Alarm{
		AlarmID: scan.As[string](r[0]), Tenant: scan.As[string](r[1]), Rule: scan.As[string](r[2]), DeviceID: scan.As[string](r[3]), ChannelKey: scan.As[string](r[4]),
		Severity: scan.As[string](r[5]), State: telemetry.AlarmState(scan.As[string](r[6])), Value: scan.As[string](r[7]), RaisedAt: scan.Time(r[8]), AckedAt: scan.Time(r[9]),
		ClearedAt: scan.Time(r[10]), PreviousValue: scan.As[string](r[12]), Revision: uint32(scan.As[int32](r[13])), //nolint:gosec // it rises from 0
	}
	if detail := scan.As[string](r[11]); detail != "" {
		a.Detail = []byte(detail)
	}
	return []telemetry.Alarm{a}, nil
}

// readFiles reads history.
func readFiles(ctx context.Context, c chunk) iter.Seq2[[]store.MessageRow, error] {
	return func(yield func([]store.MessageRow, error) bool) {
		for row, err := range parquet.ReadFile(c.path) {
			if err == nil {
				err = ctx.Err()
			}
			row.Origin = moved(row.Origin)
			if !yield([]store.MessageRow{row}, err) || err != nil {
				return
			}
		}
	}
}
