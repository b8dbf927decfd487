package rig

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/test/torture/check"
	"github.com/millrace/millrace/test/torture/ledger"
)

// Options say what one run is. Everything that is left to chance follows from Seed.
type Options struct {
	Seed     uint64
	Set      string // embedded, split, nats or kafka
	Messages int
	Devices  int      // 0 means 200, or as many as make 250 messages each
	Rate     int      // messages a second; 0 gives each fault about two seconds of them
	Faults   int      // how many; 0 means one for each 40,000 messages, 12 at least
	Kinds    []string // only faults of these kinds; empty means all
	Control  string   // a promise that is switched off, so that the run must find the breach; empty for none
	Dir      string   // where the run keeps its files; a folder is made in it
	Bin      string   // where the binaries are
	Keep     bool     // the folder, after a clean run too
	Out      io.Writer
}

// set is a deployment under test.
type set interface {
	site
	Faults() []Fault
	Stores(l *ledger.Ledger) []check.Store
	Bus() connect.BusConfig
	Source() check.Source // where tables are asked
	Note() string         // what is left out, and why
}

// site is what of a deployment runs.
type site interface {
	MQTT() string                     // where devices send: host:port
	HTTP() string                     // likewise: base URL
	Ensure(ctx context.Context) error // everything runs
	Deaths() int                      // processes that ended by themselves
	// close ends it. keep is where data goes that would not stay; empty forgets it, and removes what is in engines.
	close(ctx context.Context, keep string) error
}

const (
	devicesDefault = 200
	eachLeast      = 250
	groups         = 20
	// stallLimit is how long sending may stand still with nothing broken.
	stallLimit = 2 * time.Minute
	// settlePatience is how long a store may stand still, with nothing broken, before what it lacks counts as lost.
	settlePatience = 60 * time.Second
)

func (o Options) faults() int {
	const messages, least = 40_000, 12
	if o.Faults > 0 {
		return o.Faults
	}
	return max(least, o.Messages/messages)
}

func (o Options) rate() int {
	const seconds = 2 // of sending, for each fault
	if o.Rate > 0 {
		return o.Rate
	}
	return max(500, o.Messages/(seconds*o.faults()))
}

func (o Options) plan(now time.Time) ledger.Plan {
	devices := o.Devices
	if devices == 0 {
		devices = max(groups, min(devicesDefault, o.Messages/eachLeast))
	}
	const more = 33 // a part of the messages beyond what is asked for, since some devices give up what got no answer
	return ledger.Plan{
		Name: fmt.Sprintf("t%d", o.Seed), Devices: devices, Each: (o.Messages + o.Messages/more + devices - 1) / devices, Groups: min(groups, devices),
		Begin: now.UTC().Truncate(time.Hour).Add(-4 * time.Hour), Step: 100 * time.Millisecond,
	}
}
