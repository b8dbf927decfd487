module github.com/millrace/millrace/loadtest

go 1.26.0

replace (
	github.com/millrace/millrace/pkg => ../pkg
	github.com/millrace/millrace/schemas => ../schemas
)

require github.com/millrace/millrace/pkg v0.0.0
