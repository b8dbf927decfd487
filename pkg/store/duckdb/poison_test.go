package duckdb_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// TestARowThatTheDatabaseCannotWriteHoldsUpNobody gives it a time that its appender refuses without naming a row: the worker finds
// the row and sets it aside.
func TestARowThatTheDatabaseCannotWriteHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openAt(t, t.TempDir(), nil)
		log := mem.New(mem.Config{Now: time.Now})
		loop := worker.Loop[store.MessageRow]{
			Worker: "logs", Topics: []string{bus.Logs}, Bus: log, Store: db.Logs(), Now: time.Now,
			NewTask: func(int) (worker.Task[store.MessageRow], error) {
				return worker.Decide[store.MessageRow](func(out *worker.Output[store.MessageRow], _ string, r bus.Record) error {
					row := store.MessageRow{Origin: r.Origin}
					err := telemetry.ParseMessage(r.Value, &row.Message)
					out.Rows = append(out.Rows, row)
					return err
				}), nil
			},
		}
		var recs []bus.Record
		for i := range 20 {
			m := telemetry.Message{Tenant: "default", DeviceID: "d", Kind: telemetry.KindLog, Text: "line", EventTime: telemetry.Time(i + 1), IngestTime: 1}
			if i == 11 {
				m.EventTime = math.MinInt64
			}
			recs = append(recs, bus.Record{Origin: bus.Origin{Position: bus.Position{Seq: uint64(i + 1)}}, Value: telemetry.AppendMessage(nil, &m)})
		}
		if err := log.Append(t.Context(), bus.PartitionID{Topic: bus.Logs}, recs); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := loop.Run(ctx); err != nil {
			t.Fatal(err)
		}
		rows := 0
		each(t, db, "FROM logs", func([]any) { rows++ })
		letters := log.Records(bus.PartitionID{Topic: bus.DeadLetters})
		if rows != len(recs)-1 || len(letters) != 1 {
			t.Fatalf("%d rows and %d dead letters, want %d and 1", rows, len(letters), len(recs)-1)
		}
		var d telemetry.DeadLetter
		if err := telemetry.ParseDeadLetter(letters[0].Value, &d); err != nil || !strings.Contains(d.Reason, "cannot convert 1677") || d.Position != "1.11" {
			t.Errorf("%v: letter %+v", err, d)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}
