package store

import (
	"fmt"
	"math"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// ColumnType is the type of a column, by its name in SQL (DuckDB's spelling).
type ColumnType string

// The column types that history uses.
const (
	Varchar     ColumnType = "VARCHAR"      // UTF-8 text; Parquet: BYTE_ARRAY, logical type STRING
	Double      ColumnType = "DOUBLE"       // Parquet: DOUBLE
	Integer     ColumnType = "INTEGER"      // Parquet: INT32
	Bigint      ColumnType = "BIGINT"       // Parquet: INT64
	TimestampNS ColumnType = "TIMESTAMP_NS" // nanoseconds since 1970 UTC; Parquet: TIMESTAMP(NANOS), isAdjustedToUTC false
)

// Column is one column of a table.
type Column struct {
	Name     string
	Type     ColumnType
	Nullable bool // Parquet: optional; others are required
}

// HistoryColumns returns the columns of device_messages, archive and history in their order, which is the same in Parquet
// files and in every engine. A text that a device did not give is empty and not null; channel_value is the raw value;
// properties and attributes are JSON text, null where there is none; origin_position is PackPosition. Columns are only ever
// added, at the end.
func HistoryColumns() []Column {
	return []Column{
		{Name: "tenant", Type: Varchar},
		{Name: "device_id", Type: Varchar},
		{Name: "device_type", Type: Varchar},
		{Name: "channel_key", Type: Varchar},
		{Name: "channel_type", Type: Varchar},
		{Name: "channel_value", Type: Varchar},
		{Name: "value", Type: Double, Nullable: true},
		{Name: "event_time", Type: TimestampNS},
		{Name: "ingest_time", Type: TimestampNS},
		{Name: "message_id", Type: Varchar},
		{Name: "kind", Type: Varchar},
		{Name: "device_time", Type: TimestampNS, Nullable: true},
		{Name: "properties", Type: Varchar, Nullable: true},
		{Name: "attributes", Type: Varchar, Nullable: true},
		{Name: "source", Type: Varchar},
		{Name: "credential", Type: Varchar},
		{Name: "codec", Type: Varchar},
		{Name: "origin_partition", Type: Integer},
		{Name: "origin_position", Type: Bigint},
	}
}

// KindName returns what the column kind holds: channel, log, event, session or unknown.
func KindName(k telemetry.Kind) string {
	switch k {
	case telemetry.KindChannel:
		return "channel"
	case telemetry.KindLog:
		return "log"
	case telemetry.KindEvent:
		return "event"
	case telemetry.KindSession:
		return "session"
	case telemetry.KindUnknown:
	}
	return "unknown"
}

// ParseKind reads what KindName wrote; any other name is KindUnknown.
func ParseKind(name string) telemetry.Kind {
	for k := telemetry.KindChannel; k <= telemetry.KindSession; k++ {
		if KindName(k) == name {
			return k
		}
	}
	return telemetry.KindUnknown
}

const (
	positionIndexBits = 24
	positionIndexMax  = 1<<positionIndexBits - 1
	positionSeqMax    = math.MaxInt64 >> positionIndexBits // 5.5e11
)

// PackPosition returns p as the one number that the column origin_position holds: seq << 24 | index. Packed positions sort
// as positions do. It refuses a sequence above 2^39-1 or an index above 2^24-1, which no log of ours reaches: a frame is
// bounded in bytes well below 2^24 records.
func PackPosition(p bus.Position) (int64, error) {
	if p.Seq > positionSeqMax || p.Index > positionIndexMax {
		return 0, fmt.Errorf("position %v: beyond %d.%d, which origin_position cannot hold", p, int64(positionSeqMax), positionIndexMax)
	}
	return int64(p.Seq)<<positionIndexBits | int64(p.Index), nil
}

// RefusePositions returns a *Refused that names the rows whose position the column origin_position cannot hold; nil where it holds
// all. A driver asks before it writes, so that nothing is written: with the progress on disk, a crash before the rows are dead letters
// would lose them.
func RefusePositions(rows []MessageRow) error {
	var refused *Refused
	for i := range rows {
		if _, err := PackPosition(rows[i].Origin.Position); err != nil {
			if refused == nil {
				refused = &Refused{}
			}
			refused.Rows = append(refused.Rows, i)
			refused.Reasons = append(refused.Reasons, err.Error())
		}
	}
	if refused == nil {
		return nil
	}
	return refused
}

// UnpackPosition reads what PackPosition wrote; a negative number is the zero position.
func UnpackPosition(packed int64) bus.Position {
	if packed < 0 {
		return bus.Position{}
	}
	return bus.Position{Seq: uint64(packed) >> positionIndexBits, Index: uint32(packed & positionIndexMax)}
}
