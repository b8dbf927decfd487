// Package duckdb keeps latest state, devices, logs, dead letters, aggregates and alarms in one embedded DuckDB database, and
// answers SQL over them and over history (which is Parquet, see store.History).
//
// Its promise: rows, progress and checkpoint of a write are one transaction, on disk when Write returns. After a kill the
// database is as of the last write that returned, or one that was under way; a file that cannot be read is an error of Open
// and never an empty database. Only one process can have a file open.
//
// Each store has one connection and takes one write at a time (see lane), so writes of different workers never conflict. A
// commit costs about 0.5 ms and a sync. When the write-ahead log has grown to Config.CheckpointBytes, DuckDB moves it into the
// file within the commit that crossed the line: 0.2 to 0.5 s for that one commit.
//
// SQL from outside (DB.Query) runs in a read-only transaction, on connections of its own, with a deadline, and only if it is
// one SELECT that calls no table function outside a short list; files other than those of the archive cannot be opened at all.
//
// Start reading at Open, then lane.
package duckdb
