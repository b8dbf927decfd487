module github.com/millrace/millrace/test/e2e

go 1.26.0

replace (
	github.com/millrace/millrace/loadtest => ../../loadtest
	github.com/millrace/millrace/pkg => ../../pkg
	github.com/millrace/millrace/schemas => ../../schemas
)

require (
	github.com/millrace/millrace/loadtest v0.0.0
	github.com/millrace/millrace/pkg v0.0.0
)
