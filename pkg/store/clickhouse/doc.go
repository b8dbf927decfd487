// Package clickhouse keeps latest state, devices, history, logs, dead letters, aggregates and alarms in ClickHouse, over its native
// protocol or HTTP, and answers SQL over them.
//
// What analysts read are views in one database, with the names and columns of every other engine; the tables behind them are in a
// second one, <database>_internal. Migrate makes both and Open refuses to work without them.
//
// # Once, in effect
//
// ClickHouse has no transactions over several tables. A write goes so: compare the commit with the progress that the store holds;
// insert the rows, one block a table; insert progress and checkpoint as one block of one partition, which ClickHouse takes as a whole
// or not at all. What can go wrong, and what makes it harmless:
//
//   - The outcome of an insert is unknown: the connection broke, or the deadline passed (over HTTP the insert then goes on by itself,
//     over the native protocol it is ended). The loop repeats the write, and the block bears the same insert_deduplication_token,
//     which names worker, table, the exact range of the log and the rows: it is dropped if it is there.
//   - The process ends between rows and progress. Its successor reads the log again from the progress and cuts it into other blocks, which
//     bear other tokens. Every table replaces rows of the same key, and the views show each key once: history, logs and dead
//     letters are keyed by their origin; of latest state, the row with the latest (event time, origin) counts; of alarms the
//     highest revision; of aggregates the row whose write was furthest on in the log. So rows may be written any number of
//     times, in any order.
//   - Corrections of windows begin with what the store has (Windows), which must not be a row from a write that was cut short: its
//     messages are about to be read, and would be counted, again. So each version of a window's state is kept, with the position of
//     its write, and only versions which the progress covers are shown.
//   - A zombie, an owner that has lost its partition without knowing, writes after the new owner. The progress is read from the table when
//     a worker comes to own a partition, and after every error; between, what this process wrote last is taken for it, so the zombie is
//     not always refused. It has read the same log, so its rows are the same rows or, of windows and alarms, such as were true at
//     its position, and lose against those of a position further on. So does its progress: the version of a row of progress is its
//     position. Where the zombie is ahead, its rows, progress and checkpoint are whole, and true: whoever starts next
//     starts there, and the owner's own later writes lose until they have passed it. A checkpoint that is ahead of the progress which its
//     reader has just read is refused with ErrFenced: the two would not fit.
//   - A server dies. Rows are acknowledged when they are in the file system's cache, as is ClickHouse's way; a power failure of a single
//     server may lose the last seconds (set fsync_after_insert on the tables, at a cost), replicas do not lose them together.
//
// Nothing is tried again here: worker.Loop does that. Every statement has a deadline.
//
// Start reading at lane, then state and aggregates.
package clickhouse
