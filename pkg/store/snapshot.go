package store

// History is what a SQL engine reads history from: files that are closed, and the newest rows, which are in no file yet.
type History interface {
	// Snapshot returns one consistent state of history: every row that was written before the call is in exactly one of its
	// files or among its Rows. Safe for concurrent use. It is cheap enough to be taken for each query.
	Snapshot() (HistorySnapshot, error)
}

// HistorySnapshot is a state of history that holds until Release.
type HistorySnapshot interface {
	// Files returns the absolute paths of the Parquet files that count, none of which is removed before Release. Their
	// columns are HistoryColumns. The slice is not changed by either side.
	Files() []string
	// Rows calls yield with runs of the rows that are in no file yet, in any order, until it returns false. A run and its
	// bytes are read only, and valid until Release. Safe for concurrent use.
	Rows(yield func(run []MessageRow) bool)
	// RowCount returns how many rows Rows yields.
	RowCount() int
	// Release ends the snapshot. Calling it again does nothing.
	Release()
}
