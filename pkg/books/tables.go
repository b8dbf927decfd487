package books

import (
	"context"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// Progress says how far a worker's writes cover a partition; see store.Writer.
type Progress = func(ctx context.Context, worker string, p bus.PartitionID) (progress bus.Progress, ok bool, err error)

// NewAuditor returns the auditor of the tables that reader can ask, and their worker's progress as progress has it; both return nil
// for a table that is out of reach.
func NewAuditor(log Log, reader func(table string) store.Reader, progress func(table string) Progress) *Auditor {
	a := &Auditor{Log: log, Letters: reader(store.TableDeadLetters)}
	for _, s := range []Store{
		{Table: store.TableMessages, Topics: []string{bus.Telemetry, bus.Events}, Worker: "history-writer"},
		{Table: store.TableLogs, Topics: []string{bus.Logs}, Worker: "log-consumer"},
	} {
		if s.Reader = reader(s.Table); s.Reader == nil {
			continue
		}
		s.Progress = progress(s.Table)
		a.Stores = append(a.Stores, s)
	}
	return a
}
