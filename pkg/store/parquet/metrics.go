package parquet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what history counts.
type Metrics struct {
	files, fileRows, fileBytes, damagedFiles   prometheus.Gauge
	memoryBytes, diskFreeBytes, diskTotalBytes prometheus.Gauge
	diskFullSeconds                            prometheus.Gauge
	closedRows, closedFiles, closeFailures     prometheus.Counter
	mergedRows                                 prometheus.Counter
	closeSeconds, mergeSeconds                 prometheus.Histogram
}

// NewMetrics registers history's metrics with reg; with nil they are only counted.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	make := promauto.With(reg)
	gauge := func(name, help string) prometheus.Gauge {
		return make.NewGauge(prometheus.GaugeOpts{Namespace: "millrace", Subsystem: "history", Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return make.NewCounter(prometheus.CounterOpts{Namespace: "millrace", Subsystem: "history", Name: name, Help: help})
	}
	seconds := func(name, help string) prometheus.Histogram {
		return make.NewHistogram(prometheus.HistogramOpts{
			Namespace: "millrace", Subsystem: "history", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
		})
	}
	return &Metrics{
		files:           gauge("files", "Parquet files that count."),
		fileRows:        gauge("file_rows", "Rows in those files."),
		fileBytes:       gauge("file_bytes", "Bytes of those files."),
		damagedFiles:    gauge("damaged_files", "Files that were set aside since they cannot be read."),
		memoryBytes:     gauge("memory_bytes", "Bytes of the rows that are in no file yet."),
		diskFreeBytes:   gauge("disk_free_bytes", "Free bytes of the archive's disk."),
		diskTotalBytes:  gauge("disk_total_bytes", "All bytes of the archive's disk."),
		diskFullSeconds: gauge("disk_full_seconds", "Time until the disk is full at the pace of the last hour; 0 when it is not filling."),
		closedRows:      counter("closed_rows_total", "Rows written from memory into files."),
		closedFiles:     counter("closed_files_total", "Files written from memory."),
		closeFailures:   counter("close_failures_total", "Attempts to write rows into files that went wrong."),
		mergedRows:      counter("merged_rows_total", "Rows written again by merging."),
		closeSeconds:    seconds("close_seconds", "Time to write the rows in memory into files."),
		mergeSeconds:    seconds("merge_seconds", "Time of one merge, its rests included."),
	}
}

func (m *Metrics) catalog(c *manifest) {
	var rows, bytes int64
	for i := range c.Files {
		rows += c.Files[i].Rows
		bytes += c.Files[i].Bytes
	}
	m.files.Set(float64(len(c.Files)))
	m.fileRows.Set(float64(rows))
	m.fileBytes.Set(float64(bytes))
	m.damagedFiles.Set(float64(len(c.Damaged)))
}

func (m *Metrics) memory(bytes int64) { m.memoryBytes.Set(float64(bytes)) }

func (m *Metrics) closed(rows, files int, took time.Duration) {
	m.closedRows.Add(float64(rows))
	m.closedFiles.Add(float64(files))
	m.closeSeconds.Observe(took.Seconds())
}

func (m *Metrics) merged(rows int64, took time.Duration) {
	m.mergedRows.Add(float64(rows))
	m.mergeSeconds.Observe(took.Seconds())
}

func (m *Metrics) disk(h Health) {
	m.diskFreeBytes.Set(float64(h.Free))
	m.diskTotalBytes.Set(float64(h.Total))
	m.diskFullSeconds.Set(h.FullIn.Seconds())
}
