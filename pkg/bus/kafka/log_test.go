package kafka_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/kafka"
	"github.com/millrace/millrace/pkg/enginetest"
)

const patience = 2 * time.Minute

func ingested(n int) bus.PartitionID { return bus.PartitionID{Topic: bus.Ingested, Number: n} }

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func records(values ...string) []bus.Record {
	recs := make([]bus.Record, len(values))
	for i, v := range values {
		recs[i].Value = []byte(v)
	}
	return recs
}

// readAll returns the values from the first record to the end.
func readAll(tb testing.TB, log bus.Log, id bus.PartitionID) []string {
	tb.Helper()
	p, err := log.Partition(within(tb), id)
	if err != nil {
		tb.Fatal(err)
	}
	end, err := p.End(within(tb))
	if err != nil {
		tb.Fatal(err)
	}
	var got []string
	if end.IsZero() {
		return nil
	}
	for batch, err := range p.After(within(tb), bus.Start{}) {
		if err != nil {
			tb.Fatal(err)
		}
		for _, r := range batch.Records {
			got = append(got, string(r.Value))
		}
		if batch.Last().Compare(end) >= 0 {
			break
		}
	}
	return got
}

func TestAnAppendWhoseAnswerWasLostIsThereOnceWhenItIsSentAgain(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	between := &network{}
	log := openLog(t, kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: 1, Dial: between.dial})
	var want []string
	for i := range 12 {
		again, other := fmt.Sprint("again ", i), fmt.Sprint("other ", i)
		between.loseReplies(true)
		for range 1 + i%3 {
			if err := log.Append(within(t), ingested(0), records(again)); err == nil {
				t.Fatal("an append without an answer returned nil")
			}
		}
		between.loseReplies(false)
		if i%2 == 1 { // what comes in between must neither be lost nor stand in the way
			appendUntilDone(t, log, records(other))
			want = append(want, other)
		}
		appendUntilDone(t, log, records(again))
		want = append(want, again)
		appendUntilDone(t, log, records(again)) // once it was acknowledged, the same is another record
		want = append(want, again)
	}
	got := readAll(t, log, ingested(0))
	count := map[string]int{}
	for _, v := range got {
		count[v]++
	}
	for _, v := range want {
		count[v]--
	}
	for v, n := range count {
		if n != 0 {
			t.Errorf("%q is there %+d times too often", v, n)
		}
	}
}

func appendUntilDone(tb testing.TB, log bus.Appender, recs []bus.Record) {
	tb.Helper()
	for ctx := within(tb); ; {
		err := log.Append(ctx, ingested(0), recs)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			tb.Fatal(err)
		}
	}
}

func TestALargeAppendThatBrokeHalfwayIsThereOnceWhenItIsSentAgain(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	between := &network{}
	log := openLog(t, kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: 1, Dial: between.dial, Compression: kafka.None})
	var recs []bus.Record
	for i := range 200 {
		recs = append(recs, bus.Record{Value: []byte(fmt.Sprintf("%d %s", i, strings.Repeat(".", 100<<10)))}) // 20 MB in 20 batches
	}
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		p, err := log.Partition(within(t), ingested(0))
		if err != nil {
			return
		}
		for end, err := p.End(within(t)); err == nil && end.Seq < 20; end, err = p.End(within(t)) {
			continue // until some batches are there
		}
		between.loseReplies(true)
	}()
	err := log.Append(within(t), ingested(0), recs)
	<-broken
	between.loseReplies(false)
	if err == nil {
		t.Skip("the append was done before it could be broken")
	}
	appendUntilDone(t, log, recs)
	for i, v := range readAll(t, log, ingested(0)) {
		if !strings.HasPrefix(v, fmt.Sprint(i, " ")) {
			t.Fatalf("record %d is %.10q", i, v)
		}
	}
}

func TestAReaderThatHearsNothingSaysSoAndReadsOnWhenItIsAskedAgain(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	between, name := &network{}, prefix(t, e)
	registry := prometheus.NewRegistry()
	log := openLog(t, kafka.Config{URL: e.URL, Prefix: name, Partitions: 1, Dial: between.dial, Metrics: registry})
	other := openLog(t, kafka.Config{URL: e.URL, Prefix: name, Partitions: 1})
	appendUntilDone(t, other, records("a"))
	p, err := log.Partition(within(t), ingested(0))
	if err != nil {
		t.Fatal(err)
	}
	var at bus.Position
	var got []string
	for ctx := within(t); len(got) < 3 && ctx.Err() == nil; {
		for batch, err := range p.After(ctx, bus.Start{Position: at}) {
			if err != nil {
				t.Logf("reading ended with %v", err)
				between.release()
				break
			}
			for _, r := range batch.Records {
				got = append(got, string(r.Value))
			}
			at = batch.Last()
			if len(got) == 3 {
				break
			}
			if len(got) == 1 {
				between.hold() // a connection on which nothing comes any more
				appendUntilDone(t, other, records("b", "c"))
			}
		}
	}
	if strings.Join(got, " ") != "a b c" {
		t.Errorf("got %q", got)
	}
	if n := counted(t, registry, "millrace_bus_reads_stalled_total"); n < 1 {
		t.Errorf("%v stalls were counted", n)
	}
}

func secureConfig(t *testing.T, e *enginetest.Engine) kafka.Config {
	t.Helper()
	pem, err := os.ReadFile(e.Get("ca"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("the authority's file has no certificate")
	}
	return kafka.Config{
		URL: e.Get("secure_url"), Prefix: prefix(t, e), Partitions: 1, User: e.Get("user"), Password: e.Get("password"),
		TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}
}

func TestASecureConnectionReadsAndWrites(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	for _, mechanism := range []string{kafka.ScramSHA512, kafka.Plain} {
		t.Run(mechanism, func(t *testing.T) {
			cfg := secureConfig(t, e)
			cfg.SASL = mechanism
			log := openLog(t, cfg)
			appendUntilDone(t, log, records("a"))
			if got := readAll(t, log, ingested(0)); len(got) != 1 || got[0] != "a" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	for _, c := range []struct {
		name  string
		spoil func(*kafka.Config)
		want  string
	}{
		{"a wrong password", func(c *kafka.Config) { c.Password = "wrong" }, "SASL Authentication Failed"},
		{"an authority that signed nothing", func(c *kafka.Config) { c.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12} }, "certificate"},
		{"no encryption where it is asked for", func(c *kafka.Config) { c.TLS = nil }, ""},
		{"an address where nobody listens", func(c *kafka.Config) { c.URL = "kafka://127.0.0.1:1" }, "refused"},
		{"topics that are missing", func(c *kafka.Config) { c.CreateTopics = false }, "--create --topic "},
		{"more replicas than brokers", func(c *kafka.Config) { c.Replicas = 9 }, "replicas: 9, but there are 3 brokers"},
		{"a URL with a password", func(c *kafka.Config) { c.URL = "kafka://a:b@host:1" }, "settings of their own"},
		{"a session that brokers refuse", func(c *kafka.Config) { c.Lease = time.Second }, "lease: 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := withTestDefaults(t, secureConfig(t, e))
			c.spoil(&cfg)
			log, err := kafka.Open(within(t), cfg)
			if err == nil {
				t.Fatal("no error", log.Close())
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "alice-secret") {
				t.Errorf("got %v, want something of %q", err, c.want)
			}
		})
	}
}

func TestOpenRefusesAnotherNumberOfPartitionsAndSmallerMessages(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	cfg := kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: 2}
	openLog(t, cfg)
	cfg.Partitions = 3
	if _, err := kafka.Open(within(t), withTestDefaults(t, cfg)); err == nil || !strings.Contains(err.Error(), "has 2 partitions, want 3") {
		t.Errorf("got %v", err)
	}
	cfg.Partitions, cfg.BatchBytesMax = 2, 4<<20
	if _, err := kafka.Open(within(t), withTestDefaults(t, cfg)); err == nil || !strings.Contains(err.Error(), "max.message.bytes") {
		t.Errorf("got %v", err)
	}
}

func TestOpenWarnsOfTopicsThatMayLoseRecords(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	cfg := kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: 1}
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(addresses(e.URL)...), Transport: transport}
	topic := kafkago.TopicConfig{Topic: cfg.Prefix + bus.Ingested, NumPartitions: 1, ReplicationFactor: 3}
	for name, value := range map[string]string{"retention.ms": "3600000", "min.insync.replicas": "1", "unclean.leader.election.enable": "true"} {
		topic.ConfigEntries = append(topic.ConfigEntries, kafkago.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	res, err := client.CreateTopics(within(t), &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{topic}})
	if err = errors.Join(err, res.Errors[cfg.Prefix+bus.Ingested]); err != nil {
		t.Fatal(err)
	}
	var said lockedText
	cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	openLog(t, cfg)
	for _, want := range []string{"retention.ms=3600000", "min.insync.replicas=1", "unclean.leader.election.enable=true", "message.timestamp.type=CreateTime"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no word of %s in\n%s", want, said.String())
		}
	}
	if strings.Contains(said.String(), cfg.Prefix+bus.Telemetry) {
		t.Errorf("what Open has created is warned of:\n%s", said.String())
	}
}

// lockedText is a log's text, safe for concurrent use.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestTrimDeletesWhatIsReadAndOldAndNothingElse(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	registry := prometheus.NewRegistry()
	cfg := kafka.Config{
		URL: e.URL, Prefix: prefix(t, e), Partitions: 1, Readers: map[string][]string{bus.Ingested: {"reader", "slow"}}, Metrics: registry,
	}
	cfg.Retention.Age = time.Nanosecond
	log := openLog(t, cfg)
	for i := range 10 {
		appendUntilDone(t, log, records(fmt.Sprint(i)))
	}
	trimmed := func(want int) {
		t.Helper()
		if err := log.Trim(within(t)); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, log, ingested(0)); len(got) != want {
			t.Errorf("%d records are left, want %d", len(got), want)
		}
	}
	trimmed(10) // its readers have not come yet
	commitAs(t, log, "reader", 10)
	trimmed(10)
	commitAs(t, log, "slow", 4)
	trimmed(6)
	commitAs(t, log, "slow", 7)
	trimmed(3)
	if n := counted(t, registry, "millrace_bus_records_trimmed_total"); n != 7 {
		t.Errorf("%v records were counted as trimmed", n)
	}
}

// commitAs commits offset as the progress of group.
func commitAs(t *testing.T, log bus.Log, group string, offset uint64) {
	t.Helper()
	err := log.Subscribe(within(t), group, []string{bus.Ingested}, func(ctx context.Context, s bus.Share) error {
		return s.Partitions[0].Commit(ctx, bus.Progress{Through: bus.Position{Seq: offset}})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestACommitIsRefusedOnceTheShareIsGivenAway(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	log := openLog(t, kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: 1})
	var kept bus.Partition
	commit := func(seq uint64) error { return kept.Commit(within(t), bus.Progress{Through: bus.Position{Seq: seq}}) }
	err := log.Subscribe(within(t), "g", []string{bus.Ingested}, func(_ context.Context, s bus.Share) error {
		kept = s.Partitions[0]
		return commit(1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(2); !errors.Is(err, bus.ErrLost) {
		t.Errorf("a commit after the share was given away: %v, want ErrLost", err)
	}
}
