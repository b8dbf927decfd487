package elasticsearch_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/storetest"
)

const benchRows = 16_384

// BenchmarkWrite writes blocks of rows, each with new keys but those of "state again".
func BenchmarkWrite(b *testing.B) {
	s := newSite(b, open)
	db := s.open(b)
	logs := func(round int) []store.MessageRow { return benchMessages(round*benchRows, storetest.LogLine) }
	b.Run("logs", func(b *testing.B) { benchWrites(b, db.Logs(), "l", logs) })
	b.Run("history", func(b *testing.B) {
		benchWrites(b, db.History(), "h", func(round int) []store.MessageRow { return benchMessages(round*benchRows, storetest.Message) })
	})
	b.Run("state of 16384 channels", func(b *testing.B) {
		benchWrites(b, db.State(), "s", func(round int) []store.MessageRow {
			return benchMessages(round*benchRows, func(i int) store.MessageRow {
				m := storetest.Message(i)
				m.DeviceID, m.ChannelKey = fmt.Sprint("device-", i%1024), fmt.Sprint("channel-", i%benchRows/1024)
				return m
			})
		})
	})
	b.Run("aggregates", func(b *testing.B) {
		benchWrites(b, db.Aggregates(), "a", func(round int) []store.AggregateRow {
			rows := make([]store.AggregateRow, benchRows/8)
			for i := range rows {
				m := storetest.Message(round*benchRows + i)
				r := &rows[i]
				r.Tenant, r.DeviceID, r.ChannelKey, r.WindowStart, r.WindowLength = m.Tenant, fmt.Sprint("device-", i), m.ChannelKey, m.EventTime, 1e10
				r.Count, r.Sum, r.State, r.StateUntil, r.Revision, r.Final = 10, 12.5, bytes.Repeat([]byte("s"), 100), m.EventTime, 1, true
			}
			return rows
		})
	})
}

func benchMessages(from int, row func(i int) store.MessageRow) []store.MessageRow {
	rows := make([]store.MessageRow, benchRows)
	for i := range rows {
		rows[i] = row(from + i)
		rows[i].EventTime = 1e18 // one day
		rows[i].IngestTime = 1e18
		rows[i].Origin.Seq = uint64(from+i) + 1
		rows[i].EventTime += rows[i].EventTime%7 + 1
	}
	return rows
}

func benchWrites[Row any](b *testing.B, w store.Writer[Row], worker string, fill func(round int) []Row) {
	b.Helper()
	p, _, err := w.Progress(b.Context(), worker, spanOf(0, 0, 0).Partition)
	if err != nil {
		b.Fatal(err)
	}
	round, n := int(p.Through.Seq), 0
	for b.Loop() {
		b.StopTimer()
		rows := fill(round)
		b.StartTimer()
		if err := w.Write(b.Context(), commitOf(worker, 0, round, round+1), rows); err != nil {
			b.Fatal(err)
		}
		round++
		n += len(rows)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}
