package clickhouse

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// selectStatement returns the statement of a selection. Names have been looked at by Validate; values are literals: parameters of
// ClickHouse are text that is read again, with escapes of their own.
func selectStatement(cfg Config, s *store.Selection) string {
	var q strings.Builder
	q.WriteString("SELECT " + strings.Join(names(slices.Concat(s.Columns, s.Order)), ", ") + " FROM " + selectSource(cfg, s.Table) + " WHERE true")
	q.WriteString(conditions(s.Where))
	order := names(s.Order)
	direction, sign := " NULLS LAST", ">"
	if s.Descending {
		direction, sign = " DESC NULLS LAST", "<"
	}
	if s.After != nil {
		q.WriteString(" AND " + after(order, s.After, sign))
		if _, ok := s.After[0].(telemetry.Time); ok { // said once more, so that parts and granules can be passed over
			q.WriteString(" AND (" + order[0] + " " + sign + "= " + constant(s.After[0]) + " OR " + order[0] + " IS NULL)")
		}
	}
	q.WriteString(" ORDER BY " + strings.Join(order, direction+", ") + direction + fmt.Sprintf(" LIMIT %d", s.Limit))
	return q.String()
}

// conditions is what follows WHERE true.
func conditions(where []store.Condition) string {
	var q strings.Builder
	for _, c := range where {
		alternatives := make([]string, len(c.Columns))
		for i, column := range c.Columns {
			alternatives[i] = comparison(quoteName(column), c)
		}
		q.WriteString(" AND (" + strings.Join(alternatives, " OR ") + ")")
	}
	return q.String()
}

// selectSource is the view of a table. That of dead letters lacks RowID, for which the table behind it is read.
func selectSource(cfg Config, table string) string {
	if table != store.TableDeadLetters {
		return cfg.Database + "." + table
	}
	return "(SELECT topic, worker, reason, payload, received_at, tenant, device_id, credential, partition, position, payload_bytes, " +
		"concat(toString(at_partition), '.', toString(bitShiftRight(at_position, 24)), '.', toString(bitAnd(at_position, 16777215))) AS id, " +
		"context, replayed_at, replayed_by, " +
		"toString(at_partition) || ':' || toString(at_position) AS " + store.RowID + " FROM " + cfg.internal() + ".dead_letters FINAL)"
}

func names(columns []string) []string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = quoteName(c)
	}
	return quoted
}

func quoteName(name string) string { return "`" + name + "`" }

// after is the condition that a row comes after the one that has keys: a null comes after everything.
func after(order []string, keys []any, sign string) string {
	last := len(order) - 1
	condition := ""
	for i := last; i >= 0; i-- {
		beyond := order[i] + " " + sign + " " + constant(keys[i]) + " OR " + order[i] + " IS NULL"
		if i < last {
			beyond += " OR " + order[i] + " = " + constant(keys[i]) + " AND " + condition
		}
		condition = "(" + beyond + ")"
	}
	return condition
}

func comparison(column string, c store.Condition) string {
	switch c.Op {
	case store.Equal:
		return column + " = " + constant(c.Value)
	case store.NotEqual:
		return column + " <> " + constant(c.Value)
	case store.AtLeast:
		return column + " >= " + constant(c.Value)
	case store.Below:
		return column + " < " + constant(c.Value)
	case store.In:
		values, _ := c.Value.([]string) // Validate has looked
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = quote(v)
		}
		return column + " IN (" + strings.Join(quoted, ", ") + ")"
	case store.Contains:
		part, _ := c.Value.(string)
		escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(part))
		return "lowerUTF8(" + column + ") LIKE " + quote("%"+escaped+"%") // the index of logs knows this form
	}
	return "false" // not reached: Validate has looked
}

// constant writes a value of a condition or a key.
func constant(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return "toInt64('" + strconv.FormatInt(v, 10) + "')"
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return "toFloat64('" + strings.TrimPrefix(strconv.FormatFloat(v, 'g', -1, 64), "+") + "')"
		}
		return "toFloat64('" + strconv.FormatFloat(v, 'g', -1, 64) + "')"
	case telemetry.Time:
		return "fromUnixTimestamp64Nano(toInt64('" + strconv.FormatInt(int64(v), 10) + "'), 'UTC')"
	}
	return "NULL" // not reached: Validate has looked
}
