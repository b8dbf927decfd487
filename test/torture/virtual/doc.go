// Package virtual runs the whole pipeline in virtual time, thousands of times a minute, and breaks it at every call.
//
// One simulation is one testing/synctest bubble. In it are a log in memory (pkg/bus/mem) with a few partitions, stores in memory
// (pkg/store/mem), devices that send numbered messages through bus.Writer as the edge does, and the real services: router,
// state-projector, history-writer (a store that writes through, and segments that are held back), aggregator, alerting and
// log-consumer, each as one or two processes with handles of their own. Everything follows from a seed: the devices (in order, out
// of order, late, with a clock that is off, silent for a while, sending again what they sent), how many processes there are, and what
// breaks: at any call of the log or a store an error before or after its effect, a call that hangs, a full log, the death of the
// process; and besides, at any time, the death of all, a pause past the lease and the zombie's awakening, a polite stop, a store that is
// set back to an older copy, a log that is trimmed.
//
// Then the faults end, everything is drained, and each table is held against a ledger of what was acknowledged: lost, doubled,
// unexpected; the latest state is the highest by (event time, origin); each window is what history says; each alarm that the data
// call for is there once, and nobody is called silent while it speaks; and what was published tells a reader that drops doubles the same as the tables.
//
// A breach is printed with its seed, and shrunk: fewer faults, then fewer messages, until nothing more can be left out; the calls
// of the smallest run that shows it are printed.
//
//	SEED=1 SEEDS=20000 go test -timeout 0 ./test/torture/virtual   # more seeds than the default
//	SEED=4711 SEEDS=1 go test ./test/torture/virtual               # that one again
//
// Whether a call fails is a function of the seed, the process, the call and how often it was made, not of a common sequence of
// random numbers, so a run repeats itself as far as the order of goroutines does: what Go's scheduler and select choose, and the
// jitter of backoff, are not drawn from the seed. A breach that does not come again at once is tried again some times.
package virtual
