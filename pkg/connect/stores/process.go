package stores

import "github.com/millrace/millrace/pkg/connect"

// Of returns the stores that the configuration file of a worker names; they are closed when the worker has ended.
func Of(w *connect.Worker) (*Set, error) {
	cfg := DefaultConfig()
	for section, into := range map[string]any{
		"stores": &cfg.Tables, "clickhouse": &cfg.ClickHouse, "elasticsearch": &cfg.Elasticsearch, "postgres": &cfg.Postgres,
	} {
		if err := w.Config(section, into); err != nil {
			return nil, err
		}
	}
	s := New(cfg, Deps{Log: w.Log, Now: w.Now, Metrics: w.Metrics})
	w.OnClose(s.Close)
	return s, nil
}
