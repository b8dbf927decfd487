module github.com/millrace/millrace/services/standalone

go 1.26

replace (
	github.com/millrace/millrace/pkg => ../../pkg
	github.com/millrace/millrace/schemas => ../../schemas
	github.com/millrace/millrace/services/aggregator => ../aggregator
	github.com/millrace/millrace/services/alerting => ../alerting
	github.com/millrace/millrace/services/history-writer => ../history-writer
	github.com/millrace/millrace/services/ingest => ../ingest
	github.com/millrace/millrace/services/live => ../live
	github.com/millrace/millrace/services/log-consumer => ../log-consumer
	github.com/millrace/millrace/services/router => ../router
	github.com/millrace/millrace/services/state-projector => ../state-projector
)

require (
	github.com/millrace/millrace/pkg v0.0.0
	github.com/millrace/millrace/schemas v0.0.0
	github.com/millrace/millrace/services/aggregator v0.0.0
	github.com/millrace/millrace/services/alerting v0.0.0
	github.com/millrace/millrace/services/history-writer v0.0.0
	github.com/millrace/millrace/services/ingest v0.0.0
	github.com/millrace/millrace/services/live v0.0.0
	github.com/millrace/millrace/services/log-consumer v0.0.0
	github.com/millrace/millrace/services/router v0.0.0
	github.com/millrace/millrace/services/state-projector v0.0.0
)
