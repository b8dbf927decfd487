package connect

import "github.com/millrace/millrace/pkg/bus"

// Sections returns the top-level keys of the configuration file.
func Sections() []string {
	return []string{
		"tenant", "data", "http", "access", "insecure", "workers", "bus", "duckdb", "history",
		"stores", "clickhouse", "elasticsearch", "postgres", "archive",
		"ingest", "router", "state_projector", "history_writer", "aggregator", "alerting", "log_consumer", "live",
	}
}

// ArchiveWriter is the consumer group that writes the archive on object storage, where there is one.
const ArchiveWriter = "archive-writer"

// Readers returns, for each topic, the consumer groups for which the log keeps its records, also before they have ever
// joined: so that a worker that is started last still finds everything. archive says whether there is one on object storage.
func Readers(archive bool) map[string][]string {
	readers := map[string][]string{
		bus.Ingested:      {"router"},
		bus.Telemetry:     {"state-projector", "history-writer", "aggregator", "alerting"},
		bus.Events:        {"state-projector", "history-writer"},
		bus.Logs:          {"state-projector", "log-consumer"},
		bus.Sessions:      {"state-projector"},
		bus.Critical:      {"alerting"},
		bus.Aggregates:    {"alerting"},
		bus.AlarmCommands: {"alerting"},
		bus.DeadLetters:   {"dead-letter-writer"},
	}
	if archive {
		for _, topic := range []string{bus.Telemetry, bus.Events} {
			readers[topic] = append(readers[topic], ArchiveWriter)
		}
	}
	return readers
}
