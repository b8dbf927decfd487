module github.com/millrace/millrace/services/alerting

go 1.26

replace (
	github.com/millrace/millrace/pkg => ../../pkg
	github.com/millrace/millrace/schemas => ../../schemas
)

require (
	github.com/millrace/millrace/pkg v0.0.0
	github.com/millrace/millrace/schemas v0.0.0
)
