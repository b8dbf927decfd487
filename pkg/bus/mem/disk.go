package mem

import (
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

// disk is what outlives handles.
type disk struct {
	cfg        Config
	partitions map[bus.PartitionID]*partition // never changes

	mu     sync.Mutex
	faults Faults
	groups map[string]*group
	ticks  int64 // milliseconds that the clock of a Config without Now has moved
}

func newDisk(cfg Config) *disk {
	cfg.Partitions = max(cfg.Partitions, 1)
	if cfg.RecordBytesMax <= 0 {
		cfg.RecordBytesMax = defaultRecordBytesMax
	}
	if cfg.BatchRecords <= 0 {
		cfg.BatchRecords = defaultBatchRecords
	}
	d := &disk{cfg: cfg, partitions: map[bus.PartitionID]*partition{}, groups: map[string]*group{}}
	for _, topic := range slices.Concat(bus.Topics(), cfg.Topics) {
		for n := range cfg.Partitions {
			id := bus.PartitionID{Topic: topic, Number: n}
			p := &partition{id: id, disk: d, committed: map[string]bus.Progress{}}
			for _, name := range cfg.Readers[topic] {
				p.committed[name] = bus.Progress{}
			}
			d.partitions[id] = p
		}
	}
	return d
}

func (d *disk) partition(id bus.PartitionID) (*partition, error) {
	return bus.Find(d.partitions, id, d.cfg.Partitions)
}

func (d *disk) currentFaults() Faults {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.faults
}

func (d *disk) now() int64 {
	if d.cfg.Now != nil {
		return d.cfg.Now().UnixNano()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ticks++
	return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano() + d.ticks*int64(time.Millisecond)
}
