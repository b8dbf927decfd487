//go:build library

// Built with the tag library alone, since the client's package takes longer to compile than everything else here.
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
