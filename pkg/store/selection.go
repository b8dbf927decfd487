package store

import "context"

// The tables that a Reader may have. They bear these names and the same columns in every engine.
const (
	TableDevices     = "devices"
	TableState       = "device_state"
	TableMessages    = "device_messages"
	TableAggregates  = "aggregates"
	TableAlarms      = "alarms"
	TableLogs        = "logs"
	TableDeadLetters = "dead_letters"
)

// RowID stands in a Selection for what tells rows of dead_letters apart that were received at the same time: a number or a text
// of the engine's own choice that stays the same.
const RowID = "row_id"

// Op is how a Condition compares.
type Op uint8

// The comparisons. Text compares byte by byte, except for Contains.
const (
	Equal    Op = iota // Value: string, bool, int64
	NotEqual           // likewise
	AtLeast            // Value: telemetry.Time
	Below              // Value: telemetry.Time
	In                 // Value: []string, at least one
	Contains           // Value: string; upper and lower case are the same
)

// Condition holds for a row where any of Columns compares to Value as Op says.
type Condition struct {
	Columns []string
	Op      Op
	Value   any
}

// Selection is one page of a table.
type Selection struct {
	Table   string
	Columns []string    // of the table, in the order of the answer
	Where   []Condition // all of them hold
	// Order has the columns that sort the rows, all in one direction, null last; together they name one row.
	Order      []string
	Descending bool
	// After has the values of Order in the row after which the page begins; nil is the beginning. Values: string, bool, int64,
	// float64, telemetry.Time.
	After []any
	Limit int // most rows; at least 1
}

// Reader answers selections from what writers have written: a row is there once its Write has returned (Elasticsearch: within its
// refresh interval). Safe for concurrent use.
type Reader interface {
	// Select calls each with every row of the page, the values of Columns and then those of Order, which hold until each
	// returns: nil, string, bool, any integer or float, or time.Time in UTC. An error of each ends it and is returned. A table
	// that the store does not have is an error.
	Select(ctx context.Context, s Selection, each func(row []any) error) error
}
