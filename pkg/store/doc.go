// Package store says what a worker asks of an engine that keeps its rows: one row type and one small interface for each
// purpose. Drivers live below it (duckdb, parquet), and storetest holds them to the comments here.
//
// The promise is "effectively once": a write carries the Commit that it belongs to, and an engine either makes both durable
// together or makes the repetition of a write harmless.
package store
