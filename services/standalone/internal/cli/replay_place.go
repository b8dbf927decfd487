package cli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/services/standalone"
	"github.com/millrace/millrace/services/standalone/internal/replay"
)

// report says what became of the replay.
func (d *place) report(w io.Writer, r replay.Result) error {
	_, _ = fmt.Fprintf(w, "%d records passed: %d from the log, %d from the archive.\n", r.FromLog+r.FromArchive, r.FromLog, r.FromArchive)
	if r.FromLog+r.FromArchive == 0 {
		_, _ = fmt.Fprintln(w, "Nothing was to be done: the new store has all of it.")
	}
	for _, note := range r.Notes {
		_, _ = fmt.Fprintln(w, "  "+note)
	}
	if d.ask != "" {
		_, _ = fmt.Fprintln(w, "Ask it: "+d.ask)
	}
	if r.Lacking {
		return errors.New("not everything could be replayed: see above")
	}
	return nil
}

// place is where a new store goes.
type place struct {
	cfg     standalone.Config // whose stores are there
	worker  string
	dir     string // of embedded stores; else ""
	marker  string
	scratch string
	topics  []string // nil: all
	history bool     // the worker reads what history has
	ask     string   // how people look at it
}

// placeOf reads --into as the engine takes it that keeps the worker's table now.
func placeOf(cfg *standalone.Config, worker, into string) (*place, error) {
	d := &place{cfg: *cfg, worker: worker, history: worker != "log-consumer"}
	engine := map[string]string{
		"history-writer": cfg.Stores.History, "archive-writer": "archive", "state-projector": cfg.Stores.State, "aggregator": cfg.Stores.Aggregates,
		"log-consumer": cfg.Stores.Logs,
	}[worker]
	d.cfg.Stores = stores.DefaultTables()
	for w, table := range map[string]*string{
		"history-writer": &d.cfg.Stores.History, "state-projector": &d.cfg.Stores.State, "aggregator": &d.cfg.Stores.Aggregates, "log-consumer": &d.cfg.Stores.Logs,
	} {
		if w == worker {
			*table = engine
		}
	}
	if worker == "log-consumer" {
		d.cfg.Stores.DeadLetters = engine
	}
	key := fmt.Sprintf("%s-%x", worker, sha256.Sum256([]byte(engine+" "+into)))[:len(worker)+13]
	d.marker = filepath.Join(cfg.Data, "replays", key+".json")
	d.scratch = filepath.Join(cfg.Data, "replays", key+".tmp")
	switch engine {
	case stores.Embedded:
		return d, d.embedded(cfg.Data, into)
	case "archive":
		if cfg.Archive.URL == "" {
			return nil, errors.New("--worker archive-writer: the configuration has no archive.url, so there is no archive beside history: want --worker history-writer")
		}
		d.cfg.Archive.URL = withPlace(cfg.Archive.URL, into)
		d.cfg.Archive.Retention = 0
	case stores.ClickHouse:
		d.cfg.ClickHouse.URL = withPlace(cfg.ClickHouse.URL, into)
	case stores.Elasticsearch:
		d.cfg.Elasticsearch.Prefix = into
	default:
		return nil, fmt.Errorf("--worker %s: its store is %s, which replay cannot make anew", worker, engine)
	}
	return d, nil
}

func (d *place) embedded(data, into string) error {
	old, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(into)
	if err != nil {
		return err
	}
	if strings.HasPrefix(dir+string(filepath.Separator), old+string(filepath.Separator)) {
		return fmt.Errorf("--into %s: it is within the data directory of the instance, want another place", into)
	}
	d.dir, d.cfg.Data, d.cfg.History.Retention = dir, dir, 0
	d.marker = filepath.Join(dir, "replay-"+d.worker+".json")
	d.scratch = filepath.Join(dir, "replay-"+d.worker+".tmp")
	d.ask = fmt.Sprintf("millrace sql --data %s \"SELECT …\"", into)
	return nil
}

// withPlace puts another database or prefix into a URL that may name several hosts.
func withPlace(address, place string) string {
	if strings.Contains(place, "://") {
		return place
	}
	scheme, rest, _ := strings.Cut(address, "://")
	rest, query, asked := strings.Cut(rest, "?")
	host, _, _ := strings.Cut(rest, "/")
	out := scheme + "://" + host + "/" + strings.TrimPrefix(place, "/")
	if asked {
		out += "?" + query
	}
	return out
}
