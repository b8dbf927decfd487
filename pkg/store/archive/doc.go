// Package archive keeps history on object storage: Parquet objects under dt=YYYY-MM-DD/hour=HH/ (UTC, by event time), the same
// files as pkg/store/parquet writes on a disk, for whatever reads a bucket with a glob: Spark, DuckDB, ClickHouse.
//
// Promise. Whoever lists dt=*/hour=*/*.parquet at any moment sees whole files only, and no row twice: not while files are
// written, not after a crash and a replay, not when a replica that was given up for dead wakes. Write returns while its rows
// are in memory; Progress and Flush say what is durable. Rows that are durable are visible when their flush has ended, or,
// after a crash within it, when the next owner has found them. Progress is kept in the bucket, so that any replica goes on
// where another ended; a stale owner is fenced.
//
// How. A flush (1) writes its files under _millrace/WORKER/staged/, where no reader looks; (2) creates the next record
// _millrace/WORKER/records/N.json with the new progress and the list of those files, if nobody has created N meanwhile: this
// is the commit; (3) copies each file to its place and removes it from staged. Only a committed file is ever copied, and
// copying it again, by whoever, gives the same object, so that nothing needs to be undone: a flush that did not come to (2)
// left only what nobody reads.
//
// Any number of replicas write at once, each flush one record. The newest record holds the progress of all partitions; who finds
// that his number is taken reads what was committed, and tries the next if his own partitions are untouched, else he is fenced.
//
// Nothing is merged, since a reader with a glob would see rows twice meanwhile. Start reading at Archive; then closing.go (a
// flush), chain.go (records).
package archive
