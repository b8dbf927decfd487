// Package window computes event-time windows of numeric channels. It is pure: records and time go in (Task), rows come out,
// its state is bytes.
//
// # Clocks
//
// Every device has its own clock, the newest event time that it sent. Its tumbling and hopping windows close when the clock
// has passed their end by Lateness. A device is silent when nothing of it was ingested for Lateness while the partition's
// newest ingest time (or, on an idle log, the wall clock) went on; of a silent device the windows close whose end that time
// has passed by Lateness. So a device that runs fast never makes another's data late, and one that uploads what it
// gathered while it was off line has its windows closed by its own data.
//
// # Late records
//
// A record of a window that is closed makes a delta: a row with Revision 0 whose State is that one record's. Fold merges
// deltas into what the store has, which makes the window's next revision. That is also the way out at every limit (devices,
// channels, open windows): what cannot be gathered in memory becomes deltas, which is slower and just as right. A record that
// is later than CorrectWithin by its device's clock changes no window and is counted.
//
// Session windows have no deltas, since a late record changes their key: what is later than Lateness and joins no open
// session is counted. Within these bounds the final rows do not depend on the order of arrival.
//
// # Values
//
// Up to 64 values of a window are kept as they are; beyond that they become a DDSketch with a relative accuracy of 1 %.
// A quantile q of n values is the one with the rank ceil(q*n), counted from 1, of the sorted values: SQL's percentile_disc,
// DuckDB's quantile_disc. It is exact up to 64 values, and beyond that at most 1 % away from that value.
//
// Start reading at Task.
package window
