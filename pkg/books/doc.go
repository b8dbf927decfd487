// Package books is how Millrace's own work is counted, so that it can be held against what the stores have: accepted by the edge =
// stored + dead-lettered + repeats dropped + on the way.
//
// Edge counts what the log acknowledged to an edge. Routed counts what a router did with a run of the topic ingested. Both write
// telemetry.Account records to the topic bus.Books, which no group reads. Auditor reads them, asks the stores for their counts, and
// names what is missing or doubled.
//
// An edge that is killed takes the counts of its last second with it: its messages then stand on the log without an account,
// and are shown as uncounted. A router's account is a true statement on an exact run of positions, written before the
// run's progress is committed; so whatever crashed, runs can be chosen that follow each other without gap and overlap, and their
// counts are exact.
package books
