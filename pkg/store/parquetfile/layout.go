package parquetfile

import (
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// HourOf returns the hour of t: full hours since 1970 UTC, negative before.
func HourOf(t telemetry.Time) int64 {
	hour := int64(t) / int64(time.Hour)
	if int64(t)%int64(time.Hour) < 0 {
		hour--
	}
	return hour
}

// HourStart returns the first moment of an hour.
func HourStart(hour int64) telemetry.Time { return telemetry.Time(hour * int64(time.Hour)) }

// HourDir returns the folder of an hour, "dt=2026-02-03/hour=04": Hive's form, which DuckDB, Spark and pandas read as columns dt and
// hour.
func HourDir(hour int64) string {
	return time.Unix(hour*3600, 0).UTC().Format("dt=2006-01-02/hour=15")
}
