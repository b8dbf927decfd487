package rig

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
	"github.com/millrace/millrace/test/torture/check"
	"github.com/millrace/millrace/test/torture/ledger"
)

// newSplit is edge, router and live as processes of their own, twice each, over one NATS server, and the rest in `millrace run`, where the
// embedded stores are.
func newSplit(ctx context.Context, o Options, dir string) (_ set, err error) {
	c := &cluster{lease: 3 * time.Second, client: &http.Client{Transport: &http.Transport{}}}
	defer func() { err = c.orClose(ctx, err) }()
	all, err := engines("nats")
	if err != nil {
		return nil, err
	}
	by, err := c.through(ctx, "bus", all["nats"].url())
	if err != nil {
		return nil, err
	}
	c.bus = connect.DefaultBus()
	c.bus.URL, c.bus.Prefix, c.bus.Synced = all["nats"].url(), ownName(o), true
	c.bus.Retention.Bytes = retention(o)
	c.made = []remover{removeStreams(c.bus.URL, c.bus.Prefix)}
	c.config = fmt.Sprintf("bus: {url: %q, prefix: %s, synced: true, lease: 3s, retention: {bytes: %d}}\nworkers: [state-projector, history-writer, aggregator, alerting, log-consumer, live]\nhistory: {segment_age: 5s, merge_delay: 1s}\n",
		by, c.bus.Prefix, c.bus.Retention.Bytes)
	if err := c.open(ctx, o, dir); err != nil {
		return nil, err
	}
	c.faults = append(c.faults, all["nats"].faults()...)
	if err := c.start(ctx, 2, "ingest", "router"); err != nil {
		return nil, err
	}
	if err := c.startStores(ctx); err != nil {
		return nil, err
	}
	c.archive = func(l *ledger.Ledger) check.Store { return check.Archive(c.Source, l) }
	c.faults = append(c.faults, c.workerFaults()...)
	return c, nil
}

// startStores starts `millrace run` with what the configuration names.
func (c *cluster) startStores(ctx context.Context) error {
	at := &address{}
	c.ask = append(c.ask, at)
	data := filepath.Join(c.dir, "data")
	e := &embedded{client: c.client}
	p := &process{
		name: "millrace", path: filepath.Join(c.bin, "millrace"), log: filepath.Join(c.dir, "millrace.log"),
		args: []string{"run", "--config", c.file, "--http", "127.0.0.1:0", "--set", "live.nats=false"},
	}
	p.up = func(ctx context.Context, p *process) error {
		err := e.ready(data)(ctx, p)
		at.set(e.at.get())
		return err
	}
	c.processes = append(c.processes, p)
	return p.launch(ctx)
}

// newCluster is every worker twice, over a set of engines.
func newCluster(ctx context.Context, o Options, dir string) (_ set, err error) {
	c := &cluster{lease: 15 * time.Second, client: &http.Client{Transport: &http.Transport{}}}
	defer func() { err = c.orClose(ctx, err) }()
	if o.Set == "nats" {
		err = c.overNATS(ctx, o)
	} else {
		err = c.overKafka(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	if err := c.open(ctx, o, dir); err != nil {
		return nil, err
	}
	migrate := exec.CommandContext(ctx, filepath.Join(c.bin, "millrace"), "migrate", "--config", c.file)
	migrate.Env = environment()
	if out, err := migrate.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("migrate: %w: %s", err, out)
	}
	if err := c.start(ctx, 2, workers()...); err != nil {
		return nil, err
	}
	c.faults = append(c.faults, c.workerFaults()...)
	return c, nil
}

func (c *cluster) orClose(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(err, c.close(ctx, ""))
}

// ownName returns a name that no other run uses, of letters and digits.
func ownName(o Options) string {
	return "t" + strconv.FormatUint(o.Seed, 36) + "x" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// retention keeps the whole log, so that the books can be read at the end.
func retention(o Options) config.Bytes {
	const message, least = 2000, 64 << 20
	return config.Bytes(max(least, message*o.Messages))
}

func (c *cluster) overNATS(ctx context.Context, o Options) error {
	all, err := engines("nats-cluster", "clickhouse", "postgres")
	if err != nil {
		return err
	}
	own := ownName(o)
	clickhouse, err := c.through(ctx, "clickhouse", all["clickhouse"].url())
	if err != nil {
		return err
	}
	if clickhouse, err = withPath(clickhouse, own); err != nil {
		return err
	}
	postgres, err := c.through(ctx, "postgres", all["postgres"].url())
	if err != nil {
		return err
	}
	c.bus = connect.DefaultBus()
	c.bus.URL, c.bus.Prefix, c.bus.Replicas, c.bus.Synced, c.bus.Retention.Bytes = all["nats-cluster"].url(), own, 3, true, retention(o)
	c.made = []remover{
		removeStreams(c.bus.URL, own), c.removeDatabases(all["clickhouse"].settings["http_url"], own), removeSchema(all["postgres"].url(), own),
	}
	c.config = fmt.Sprintf(`
bus: {url: %q, prefix: %s, replicas: 3, synced: true, retention: {bytes: %d}}
stores: {state: clickhouse, history: clickhouse, aggregates: clickhouse, alarms: postgres, logs: clickhouse, dead_letters: clickhouse}
clickhouse: {url: %q, history_for: 0s, logs_for: 0s}
postgres: {url: %q, schema: %s}
`, c.bus.URL, own, c.bus.Retention.Bytes, clickhouse, postgres, own)
	for _, name := range []string{"nats-cluster", "clickhouse", "postgres"} {
		c.faults = append(c.faults, all[name].faults()...)
	}
	return nil
}

func (c *cluster) overKafka(ctx context.Context, o Options) error {
	all, err := engines("kafka", "clickhouse", "elasticsearch", "s3")
	if err != nil {
		return err
	}
	own, s3 := ownName(o), all["s3"]
	clickhouse, err := c.through(ctx, "clickhouse", all["clickhouse"].settings["http_url"])
	if err != nil {
		return err
	}
	if clickhouse, err = withPath(clickhouse, own); err != nil {
		return err
	}
	elastic, err := c.through(ctx, "elasticsearch", all["elasticsearch"].url())
	if err != nil {
		return err
	}
	place, err := withPath(s3.url(), own)
	if err != nil {
		return err
	}
	b := bucket.Config{URL: place, AccessKey: s3.settings["access_key"], SecretKey: s3.settings["secret_key"]}
	c.bus = connect.DefaultBus()
	c.bus.URL, c.bus.Prefix = all["kafka"].url(), own+"."
	c.made = []remover{
		removeTopics(c.bus.URL, c.bus.Prefix), c.removeDatabases(all["clickhouse"].settings["http_url"], own),
		c.removeIndices(all["elasticsearch"].url(), own), removeFiles(b),
	}
	c.config = fmt.Sprintf(`
bus: {url: %q, prefix: %s.}
stores: {state: clickhouse, history: clickhouse, aggregates: clickhouse, alarms: clickhouse, logs: elasticsearch, dead_letters: elasticsearch}
clickhouse: {url: %q, history_for: 0s}
elasticsearch: {url: %q, prefix: %s, logs_for: 0s}
archive: {url: %q, access_key: %q, secret_key: %q, file_age: 5s}
`, c.bus.URL, own, clickhouse, elastic, own, b.URL, b.AccessKey, b.SecretKey)
	for _, name := range []string{"kafka", "clickhouse", "elasticsearch", "s3"} {
		c.faults = append(c.faults, all[name].faults()...)
	}
	c.archive = func(l *ledger.Ledger) check.Store {
		return check.Store{Name: "archive", Check: func(ctx context.Context) (check.Verdict, error) { return readArchive(ctx, b, l) }}
	}
	return nil
}

// readArchive reads every file of the bucket, as any reader of Parquet would.
func readArchive(ctx context.Context, cfg bucket.Config, l *ledger.Ledger) (v check.Verdict, err error) {
	b, err := bucket.Open(ctx, cfg)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	h := check.NewHeap("archive", l)
	for file, err := range archive.Files(ctx, b) {
		if err != nil {
			return v, err
		}
		for row, err := range archive.ReadFile(ctx, b, file.Key) {
			if err != nil {
				return v, err
			}
			if row.ChannelKey == "n" {
				h.Put(row.DeviceID, string(row.ChannelValue))
			}
		}
	}
	return h.Verdict(), nil
}
