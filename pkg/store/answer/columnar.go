package answer

import (
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/parquet-go/parquet-go"
)

// columnar is how Arrow and Parquet carry a column.
type columnar uint8

// Numbers of more than 64 bits (what sum of integers gives) and decimals are doubles; lists, structures, maps and whatever
// has no type of its own here are text, as Text writes them.
const (
	asText columnar = iota
	asBool
	asInt32
	asInt
	asUint
	asDouble
	asMicros // timestamps
	asNanos
	asDate
	asBytes
)

func columnarOf(columnType string) columnar {
	switch columnType {
	case "BOOLEAN":
		return asBool
	case "TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT":
		return asInt32
	case "BIGINT", "UINTEGER":
		return asInt
	case "UBIGINT":
		return asUint
	case "FLOAT", "DOUBLE", "HUGEINT", "UHUGEINT":
		return asDouble
	case "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMPTZ":
		return asMicros
	case "TIMESTAMP_NS":
		return asNanos
	case "DATE":
		return asDate
	case "BLOB":
		return asBytes
	}
	if strings.HasPrefix(columnType, "DECIMAL") {
		return asDouble
	}
	return asText
}

func toInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	}
	return 0, false
}

func toDouble(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case float32:
		return float64(v), true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f, true
	case Decimal:
		f, err := strconv.ParseFloat(string(v), 64)
		return f, err == nil
	}
	return 0, false
}

func daysOf(t time.Time) int32 {
	const day = 24 * 60 * 60
	return int32((t.Unix() - ((t.Unix()%day)+day)%day) / day) //nolint:gosec // a date
}

const arrowBatchRows = 8192

// writeArrow writes an Arrow IPC stream.
func writeArrow(w io.Writer, r Result) error {
	types := map[columnar]arrow.DataType{
		asText: arrow.BinaryTypes.String, asBool: arrow.FixedWidthTypes.Boolean, asInt32: arrow.PrimitiveTypes.Int32, asInt: arrow.PrimitiveTypes.Int64,
		asUint: arrow.PrimitiveTypes.Uint64, asDouble: arrow.PrimitiveTypes.Float64, asMicros: &arrow.TimestampType{Unit: arrow.Microsecond},
		asNanos: &arrow.TimestampType{Unit: arrow.Nanosecond}, asDate: arrow.FixedWidthTypes.Date32, asBytes: arrow.BinaryTypes.Binary,
	}
	columns := r.Columns()
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.Name, Type: types[columnarOf(c.Type)], Nullable: true}
	}
	schema := arrow.NewSchema(fields, nil)
	stream := ipc.NewWriter(w, ipc.WithSchema(schema))
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	n := 0
	flush := func() error {
		batch := builder.NewRecordBatch()
		defer batch.Release()
		n = 0
		return stream.Write(batch)
	}
	for row, err := range r.Rows() {
		if err != nil {
			return err
		}
		for i, v := range row {
			appendArrow(builder.Field(i), v, columns[i].Type)
		}
		if n++; n == arrowBatchRows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return stream.Close()
}

// appendArrow appends a value; one that is not of the column's type is null.
func appendArrow(to array.Builder, v any, columnType string) {
	switch b := to.(type) {
	case *array.StringBuilder:
		if v != nil {
			b.Append(Text(v, columnType))
			return
		}
	case *array.BooleanBuilder:
		if v, ok := v.(bool); ok {
			b.Append(v)
			return
		}
	case *array.Int32Builder:
		if v, ok := toInt(v); ok {
			b.Append(int32(v)) //nolint:gosec // the column's type says so
			return
		}
	case *array.Int64Builder:
		if v, ok := toInt(v); ok {
			b.Append(v)
			return
		}
	case *array.Uint64Builder:
		if v, ok := v.(uint64); ok {
			b.Append(v)
			return
		}
	case *array.Float64Builder:
		if v, ok := toDouble(v); ok {
			b.Append(v)
			return
		}
	case *array.TimestampBuilder:
		if v, ok := v.(time.Time); ok {
			ticks := v.UnixMicro()
			if columnarOf(columnType) == asNanos {
				ticks = v.UnixNano()
			}
			b.Append(arrow.Timestamp(ticks))
			return
		}
	case *array.Date32Builder:
		if v, ok := v.(time.Time); ok {
			b.Append(arrow.Date32(daysOf(v)))
			return
		}
	case *array.BinaryBuilder:
		if v, ok := v.([]byte); ok {
			b.Append(v)
			return
		}
	}
	to.AppendNull()
}

// orderedGroup is a Parquet group whose fields keep their order; parquet.Group sorts them by name.
type orderedGroup struct {
	parquet.Group
	fields []parquet.Field
}

// Fields implements parquet.Node.
func (g orderedGroup) Fields() []parquet.Field { return g.fields }

func parquetSchema(columns []Column) *parquet.Schema {
	group := orderedGroup{Group: parquet.Group{}}
	for i, name := range uniqueNames(columns) {
		node := parquet.Optional(parquetNode(columnarOf(columns[i].Type)))
		group.Group[name] = node
		group.fields = append(group.fields, (parquet.Group{name: node}).Fields()...) // the only way to a field of a name
	}
	return parquet.NewSchema("result", group)
}

func parquetNode(kind columnar) parquet.Node {
	switch kind {
	case asBool:
		return parquet.Leaf(parquet.BooleanType)
	case asInt32:
		return parquet.Int(32)
	case asInt:
		return parquet.Int(64)
	case asUint:
		return parquet.Uint(64)
	case asDouble:
		return parquet.Leaf(parquet.DoubleType)
	case asMicros:
		return parquet.TimestampAdjusted(parquet.Microsecond, false)
	case asNanos:
		return parquet.TimestampAdjusted(parquet.Nanosecond, false)
	case asDate:
		return parquet.Date()
	case asBytes:
		return parquet.Leaf(parquet.ByteArrayType)
	case asText:
	}
	return parquet.String()
}

// writeParquet writes one Parquet file, zstd.
func writeParquet(w io.Writer, r Result) error {
	columns := r.Columns()
	out := parquet.NewWriter(w, parquetSchema(columns), parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(128<<10))
	rows := make([]parquet.Row, 1)
	for row, err := range r.Rows() {
		if err != nil {
			return err
		}
		rows[0] = rows[0][:0]
		for i, v := range row {
			value := parquetValue(v, columns[i].Type)
			defined := 1
			if value.IsNull() {
				defined = 0
			}
			rows[0] = append(rows[0], value.Level(0, defined, i))
		}
		if _, err := out.WriteRows(rows); err != nil {
			return fmt.Errorf("write parquet: %w", err)
		}
	}
	return out.Close()
}

func parquetValue(v any, columnType string) parquet.Value {
	if v == nil {
		return parquet.NullValue()
	}
	switch columnarOf(columnType) {
	case asBool:
		if v, ok := v.(bool); ok {
			return parquet.BooleanValue(v)
		}
	case asInt32:
		if v, ok := toInt(v); ok {
			return parquet.Int32Value(int32(v)) //nolint:gosec // the column's type says so
		}
	case asInt:
		if v, ok := toInt(v); ok {
			return parquet.Int64Value(v)
		}
	case asUint:
		if v, ok := v.(uint64); ok {
			return parquet.Int64Value(int64(v)) //nolint:gosec // Parquet keeps unsigned numbers so
		}
	case asDouble:
		if v, ok := toDouble(v); ok {
			return parquet.DoubleValue(v)
		}
	case asMicros, asNanos, asDate:
		if v, ok := v.(time.Time); ok {
			return timeValue(v, columnarOf(columnType))
		}
	case asBytes:
		if v, ok := v.([]byte); ok {
			return parquet.ByteArrayValue(v)
		}
	case asText:
		return parquet.ByteArrayValue([]byte(Text(v, columnType)))
	}
	return parquet.NullValue()
}

func timeValue(t time.Time, kind columnar) parquet.Value {
	switch kind {
	case asNanos:
		return parquet.Int64Value(t.UnixNano())
	case asDate:
		return parquet.Int32Value(daysOf(t))
	default:
		return parquet.Int64Value(t.UnixMicro())
	}
}
