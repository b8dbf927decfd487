// Package service is what every Millrace process has: common flags, a logger, a registry of metrics, readiness, the
// listener for /healthz, /readyz and /metrics, traces, signals and the exit code. It knows no worker.
//
// A worker's main is one call of Main. A process that has flags of its own (the millrace command) makes a Process with
// New and runs it with Supervise; both give the same promise: the first SIGINT or SIGTERM ends the context, upon which
// the process finishes what is in hand and leaves with 0; a second one, or a drain that takes too long, ends it with 1.
//
// Nothing here is global: registry, logger, tracer provider and clock are fields of Process and are handed on, so that
// many workers share a process. Start reading at Main.
package service
