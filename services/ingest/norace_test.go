//go:build !race

package ingest_test

const raceTimes = 1
