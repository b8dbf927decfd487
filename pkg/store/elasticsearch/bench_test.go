package elasticsearch_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	elastic "github.com/elastic/go-elasticsearch/v8"
	"github.com/elastic/go-elasticsearch/v8/esutil"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/elasticsearch"
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

// BenchmarkAgainstBulkIndexer writes the same documents by this package and by the client's own BulkIndexer, block by block in
// turn, so that whatever else the machine does meets both, and reports how many times as fast this package is. The indexer
// gets the encoded documents, since it has no encoder, the same template, and the best of its settings that were tried.
func BenchmarkAgainstBulkIndexer(b *testing.B) {
	s := newSite(b, open)
	db := s.open(b)
	client, err := elastic.NewClient(elastic.Config{Addresses: []string{s.cfg.URL}})
	if err != nil {
		b.Fatal(err)
	}
	var ours, theirs time.Duration
	round := 0
	write := func(rows []store.MessageRow) {
		start := time.Now()
		if err := db.Logs().Write(b.Context(), commitOf("b", 0, round, round+1), rows); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(start)
	}
	index := func(docs [][]byte) {
		start := time.Now()
		writeByIndexer(b, client, s.cfg.Prefix+"-logs-2099.12.31", round, docs)
		theirs += time.Since(start)
	}
	for b.Loop() {
		rows := benchMessages(round*benchRows, storetest.LogLine)
		docs := elasticsearch.EncodeLogs(rows)
		if round%2 == 0 { // what the server does behind the one shall not always meet the other
			write(rows)
			index(docs)
		} else {
			index(docs)
			write(rows)
		}
		round++
	}
	call(b, db, http.MethodPost, "/"+s.cfg.Prefix+"-*/_refresh", nil, nil)
	n := float64(round * benchRows)
	b.ReportMetric(n/ours.Seconds(), "ours-rows/s")
	b.ReportMetric(n/theirs.Seconds(), "indexer-rows/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
}

func writeByIndexer(b *testing.B, client *elastic.Client, index string, round int, docs [][]byte) {
	b.Helper()
	indexer, err := esutil.NewBulkIndexer(esutil.BulkIndexerConfig{Client: client, Index: index, NumWorkers: 2, FlushBytes: 2 << 20})
	if err != nil {
		b.Fatal(err)
	}
	for i, d := range docs {
		item := esutil.BulkIndexerItem{Action: "create", DocumentID: fmt.Sprintf("%d.%d", round, i), Body: bytes.NewReader(d)}
		if err := indexer.Add(b.Context(), item); err != nil {
			b.Fatal(err)
		}
	}
	if err := indexer.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	if stats := indexer.Stats(); stats.NumCreated != uint64(len(docs)) {
		b.Fatalf("%d documents were created, want %d", stats.NumCreated, len(docs))
	}
}
