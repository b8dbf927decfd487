package archive

import (
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/gather"
	"github.com/millrace/millrace/pkg/store/parquetfile"
)

// What tests outside the package need of its inside.

// Abandon leaves the bucket as a crash would.
func (a *Archive) Abandon() error { return a.abandon() }

// Memory returns the rows that are in no file yet.
func (a *Archive) Memory() []store.MessageRow {
	a.mu.Lock()
	defer a.mu.Unlock()
	var rows []store.MessageRow
	a.rows.Segments(func(s *parquetfile.Segment) {
		v := s.View()
		for _, p := range v.Pieces(nil, 0) {
			rows = append(rows, v.Messages(p)...)
		}
	})
	return rows
}

// ParseRecord is for the fuzzer.
func ParseRecord(b []byte) error { _, err := parseRecord(b); return err }

// Durable returns how far rows are known to be durable, without a look at the bucket.
func (a *Archive) Durable(worker string, p bus.PartitionID) bus.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	progress, _ := a.rows.Durable(gather.Source{Worker: worker, Partition: p})
	return progress
}
