package connect

import "fmt"

// Store opens the store that a worker of its own writes. Every store there is today is embedded in `millrace run`, which has
// its files to itself, so the answer is an error that says so.
func Store[Writer any](worker, tables string) (Writer, error) {
	var none Writer
	return none, fmt.Errorf("%s keeps %s in a store that is embedded in `millrace run` and cannot be reached from another process: "+
		"run it there, with bus.url set to the NATS server and workers: [%s] in the configuration", worker, tables, worker)
}
