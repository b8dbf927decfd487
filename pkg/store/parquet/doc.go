// Package parquet keeps history: every message as a row of sorted Parquet files under dt=YYYY-MM-DD/hour=HH (UTC, by event
// time), and the newest rows, which are in no file yet, in memory.
//
// Promise. Write returns while its rows are in memory: they are visible to Snapshot from then on, and on disk when Progress
// covers them. A manifest, replaced in one step, names the files that count and how far they cover each partition; both
// change together, so a crash at any moment loses nothing that Progress had promised, and what the log hands in again is
// stored once. A file that the manifest does not name does not exist for readers; Open removes it.
//
// Memory is bounded: when Config.MemoryBytes are held, Write waits until a file is closed, and reports why none can be.
//
// In the background, one goroutine closes segments and another, of low priority, merges the small files of an hour into
// large ones, removes what has outlived Config.Retention and watches the disk.
//
// Start reading at History; then segment (rows in memory), closeBatch (memory to files), catalog (which files count).
package parquet
