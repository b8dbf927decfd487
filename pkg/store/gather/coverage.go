package gather

import (
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
)

// Coverage is how far files hold what a worker wrote of one partition, as JSON.
type Coverage struct {
	Worker    string   `json:"worker"`
	Topic     string   `json:"topic"`
	Partition int      `json:"partition"`
	Through   string   `json:"through"` // bus.Position
	Origins   []Origin `json:"origins,omitempty"`
}

// Origin is a bus.Origin as JSON.
type Origin struct {
	Partition int32  `json:"partition"`
	Position  string `json:"position"`
}

// NewCoverage says that from is covered through p.
func NewCoverage(from Source, p bus.Progress) Coverage {
	c := Coverage{Worker: from.Worker, Topic: from.Partition.Topic, Partition: from.Partition.Number, Through: p.Through.String()}
	for _, o := range p.Origins {
		c.Origins = append(c.Origins, Origin{Partition: o.Partition, Position: o.String()})
	}
	return c
}

// Source returns what c is the coverage of.
func (c *Coverage) Source() Source {
	return Source{Worker: c.Worker, Partition: bus.PartitionID{Topic: c.Topic, Number: c.Partition}}
}

// Progress reads how far c goes.
func (c *Coverage) Progress() (bus.Progress, error) {
	through, err := bus.ParsePosition(c.Through)
	if err != nil {
		return bus.Progress{}, fmt.Errorf("progress of %s[%d]: %w", c.Topic, c.Partition, err)
	}
	p := bus.Progress{Through: through}
	for _, o := range c.Origins {
		at, err := bus.ParsePosition(o.Position)
		if err != nil {
			return bus.Progress{}, fmt.Errorf("progress of %s[%d]: origin: %w", c.Topic, c.Partition, err)
		}
		p.Origins = append(p.Origins, bus.Origin{Partition: o.Partition, Position: at})
	}
	return p, nil
}
