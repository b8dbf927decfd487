package connect

import "github.com/millrace/millrace/pkg/bus"

// Sections returns the top-level keys of the configuration file.
func Sections() []string {
	return []string{
		"tenant", "data", "http", "access", "insecure", "workers", "bus", "duckdb", "history",
		"ingest", "router", "state_projector", "history_writer", "aggregator", "alerting", "log_consumer", "live",
	}
}

// Readers returns, for each topic, the consumer groups for which the log keeps its records, also before they have ever
// joined: so that a worker that is started last still finds everything.
func Readers() map[string][]string {
	return map[string][]string{
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
}
