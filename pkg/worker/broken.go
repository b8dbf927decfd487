package worker

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
)

// place names one record, the zero place none.
type place struct {
	id       bus.PartitionID
	position bus.Position
}

// breakage is how a task's life broke.
type breakage uint8

const (
	broken   breakage = iota // it panicked
	hung                     // it did not come back
	unstored                 // the store, which takes other writes, does not take this one
	died                     // the process died
)

// failed is what ends a life of a task that another one, from the last commit, may mend.
type failed struct {
	how   breakage
	at    place  // the record in hand; none where several were, or none was
	taken int    // how many records were taken since the last commit, where it was the commit that failed; else 0
	value string // what the panic, or the store, said
	stack string // its first lines below the panic
}

// Error says what happened.
func (f *failed) Error() string {
	switch f.how {
	case hung:
		return "the task hangs: " + f.value
	case unstored:
		return "a write that fails alone: " + f.value
	case died:
		return "the process died: " + f.value
	case broken:
	}
	return "panic: " + f.value
}

// inCommit says that not one record was at fault, but what had gathered.
func (f *failed) inCommit() bool { return f.taken > 0 }

// reason is what the dead letter of a record says that broke the task some times.
func (f *failed) reason(times int) string {
	what := "the worker panicked on it"
	switch {
	case f.how == hung:
		what = "the worker did not come back from it"
	case f.how == unstored:
		what = "the store cannot write what comes of it, and takes other writes: it tried"
	case f.how == died:
		what = "the process died with it in hand"
	case f.inCommit():
		what = "the worker panicked on what came of it"
	}
	text := fmt.Sprintf("%s %d times: %s", what, times, f.value)
	if f.stack != "" {
		text += "\n" + f.stack
	}
	return text
}

// guard calls f and returns its panic, if any, as an error that blames no record.
func guard(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked(place{}, v)
		}
	}()
	f()
	return nil
}

const stackLinesMax = 12

func panicked(at place, value any) *failed {
	lines := strings.Split(string(debug.Stack()), "\n")
	for i, line := range lines { // above panic( is only our own recovering
		if strings.HasPrefix(line, "panic(") {
			lines = lines[min(i+2, len(lines)):]
			break
		}
	}
	return &failed{at: at, value: fmt.Sprint(value), stack: strings.Join(lines[:min(stackLinesMax, len(lines))], "\n")}
}
