package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/pkg/store/answer"
)

// commonType returns the name that answers give a type, which is DuckDB's.
func commonType(name string) string {
	for _, wrapper := range []string{"Nullable(", "LowCardinality("} {
		if inner, ok := strings.CutPrefix(name, wrapper); ok {
			return commonType(strings.TrimSuffix(inner, ")"))
		}
	}
	if inner, ok := strings.CutPrefix(name, "Array("); ok {
		return commonType(strings.TrimSuffix(inner, ")")) + "[]"
	}
	head, rest, _ := strings.Cut(name, "(")
	switch head {
	case "Bool":
		return "BOOLEAN"
	case "Int8":
		return "TINYINT"
	case "Int16":
		return "SMALLINT"
	case "Int32":
		return "INTEGER"
	case "Int64":
		return "BIGINT"
	case "UInt8":
		return "UTINYINT"
	case "UInt16":
		return "USMALLINT"
	case "UInt32":
		return "UINTEGER"
	case "UInt64":
		return "UBIGINT"
	case "Int128", "Int256":
		return "HUGEINT"
	case "UInt128", "UInt256":
		return "UHUGEINT"
	case "Float32", "BFloat16":
		return "FLOAT"
	case "Float64":
		return "DOUBLE"
	case "Decimal", "Decimal32", "Decimal64", "Decimal128", "Decimal256":
		return "DECIMAL(" + strings.ReplaceAll(rest, " ", "")
	case "Date", "Date32":
		return "DATE"
	case "DateTime":
		return "TIMESTAMP"
	case "DateTime64":
		if strings.HasPrefix(rest, "9") {
			return "TIMESTAMP_NS"
		}
		return "TIMESTAMP"
	case "UUID":
		return "UUID"
	case "JSON", "Object":
		return "JSON"
	case "Map":
		return "MAP(" + rest
	case "Tuple", "Nested":
		return "STRUCT(" + rest
	}
	return "VARCHAR"
}

// neutral turns a value of the client library into one of package answer. Maps have no order: their keys are sorted as text.
func neutral(v reflect.Value) any {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		if _, ok := reflect.TypeAssert[*big.Int](v); ok {
			return v.Interface()
		}
		v = v.Elem()
	}
	switch value := v.Interface().(type) {
	case time.Time:
		return value.UTC()
	case big.Int:
		return &value
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool()
	case reflect.String:
		return v.String()
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		if v.Type().PkgPath() == "" {
			return v.Interface()
		}
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 && v.Len() == len([16]byte{}) {
			b := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(b), v)
			return b // a UUID
		}
	case reflect.Slice:
		all := make([]any, v.Len())
		for i := range all {
			all[i] = neutral(v.Index(i))
		}
		return all
	case reflect.Map:
		return neutralMap(v)
	default: // as text
	}
	text := fmt.Sprint(v.Interface())
	if strings.HasPrefix(v.Type().String(), "decimal.") {
		return answer.Decimal(text)
	}
	return text
}

func neutralMap(v reflect.Value) any {
	m := answer.Map{}
	for _, key := range v.MapKeys() {
		m.Keys = append(m.Keys, neutral(key))
	}
	slices.SortFunc(m.Keys, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	byText := make(map[string]reflect.Value, v.Len())
	for key, value := range v.Seq2() {
		byText[fmt.Sprint(neutral(key))] = value
	}
	for _, key := range m.Keys {
		m.Values = append(m.Values, neutral(byText[fmt.Sprint(key)]))
	}
	return m
}

// codeSyntaxError is what the server says of text that it cannot parse.
const codeSyntaxError = 62

// explain says of an error what a caller must know: its own end, the deadline, the memory, what is wrong with the query, or that the
// server is in trouble.
func (r *queryResult) explain(err error) error {
	for _, own := range []error{answer.ErrInvalid, answer.ErrNotAllowed} {
		if errors.Is(err, own) {
			return err
		}
	}
	e, server := errors.AsType[*ch.Exception](err)
	switch {
	case r.caller.Err() != nil:
		return fmt.Errorf("%w: %w", r.caller.Err(), err)
	case r.work.Err() != nil:
		return answer.ErrTimeout
	case !server:
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) { // the connection's own may come first
			return answer.ErrTimeout
		}
		return err
	}
	switch e.Code {
	case 159, 160: // TIMEOUT_EXCEEDED, TOO_SLOW
		return fmt.Errorf("%w: %w", answer.ErrTimeout, err)
	case 158, 191, 241, 243, 307, 396: // too many rows or bytes, MEMORY_LIMIT_EXCEEDED, NOT_ENOUGH_SPACE
		return fmt.Errorf("%w: %w", answer.ErrResources, err)
	case 164, 291, 452, 497: // READONLY, DATABASE_ACCESS_DENIED, SETTING_CONSTRAINT_VIOLATION, ACCESS_DENIED
		return fmt.Errorf("%w: %w", answer.ErrNotAllowed, err)
	case 202: // TOO_MANY_SIMULTANEOUS_QUERIES
		return fmt.Errorf("%w: %w", answer.ErrBusy, err)
	}
	if slices.Contains(troubles(), e.Code) {
		return err
	}
	return fmt.Errorf("%w: %w", answer.ErrInvalid, err)
}

// troubles are the server's own: files, network, parts, Keeper, authentication, and what should never be.
func troubles() []int32 {
	return []int32{
		3, 32, 33, 40, 49, 74, 75, 76, 87, 88, 95, 96, 198, 209, 210, 218, 225, 228, 232, 236, 242, 244, 246, 265, 279, 319, 339, 373, 394, 425, 439, 499, 516,
		529, 571, 574, 999, 1000, 1001, 1002,
	}
}
