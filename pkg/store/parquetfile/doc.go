// Package parquetfile is what the stores of history in Parquet share: rows in memory (Segment), their order in files (Order),
// files (Write, Reader) and the folders that they lie in (HourDir). It neither opens nor names files; its callers do, on a
// disk or in a bucket.
//
// A file has the columns of store.HistoryColumns, rows of one hour by event time, sorted by tenant, device, channel, event
// time and origin.
package parquetfile
