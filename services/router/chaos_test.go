package router_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/router"
)

// chance fails calls of a log at random, and now and then kills the router.
type chance struct {
	mu   sync.Mutex
	dice *rand.Rand
	log  *mem.Log // the router's handle
}

var errChance = errors.New("nobody knows")

func (c *chance) fail(percent int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch n := c.dice.IntN(100); {
	case n < 1:
		c.log.Crash()
		return mem.ErrCrashed
	case n < percent:
		return errChance
	}
	return nil
}

func (c *chance) faults() mem.Faults {
	appending := func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
		if id.Topic == bus.Ingested {
			return nil
		}
		return c.fail(20)
	}
	committing := func(context.Context, string, bus.PartitionID, bus.Progress) error { return c.fail(20) }
	return mem.Faults{
		BeforeAppend: appending, AfterAppend: appending, BeforeCommit: committing, AfterCommit: committing,
		BeforeRead: func(context.Context, bus.PartitionID, bus.Position) error { return c.fail(5) },
	}
}

// Whatever fails and dies, and however often, each message is taken once from each of its topics, in the order in which it came.
func TestWhateverFailsEachMessageIsTakenOnceAndInOrder(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := router.DefaultConfig()
				cfg.WarmRecords = 300
				cfg.Routes = []router.Route{{Name: "copy", Condition: `value > 1`, Endpoints: []string{"copies"}}}
				log := newLog(cfg)
				c := &chance{dice: rand.New(rand.NewPCG(seed, 0))}
				plan := rand.New(rand.NewPCG(seed, 1))
				want := map[string][]string{}
				next := 0
				for range 12 { // lives
					c.log = log.Open()
					log.SetFaults(c.faults())
					stop := start(t, cfg, c.log, nil)
					for range 30 {
						next = putSome(t, log, plan, want, next)
						<-time.After(time.Duration(plan.IntN(1500)) * time.Millisecond)
					}
					if plan.IntN(2) == 0 {
						c.log.Crash()
					}
					_ = stop()
				}
				log.SetFaults(mem.Faults{})
				stop := start(t, cfg, log.Open(), nil)
				<-time.After(time.Minute)
				synctest.Wait()
				for _, topic := range []string{bus.Telemetry, bus.Logs, "copies"} {
					if got := takenFrom(t, log, topic); !slices.Equal(got, want[topic]) {
						t.Errorf("%s: %d messages, want %d: %v, want %v", topic, len(got), len(want[topic]), got, want[topic])
					}
				}
				checkBooks(t, log, len(want[bus.Telemetry]), len(want[bus.Logs]))
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// checkBooks wants the routers' accounts to tell of every record once, whoever crashed.
func checkBooks(t *testing.T, log *mem.Log, channels, lines int) {
	t.Helper()
	auditor := books.NewAuditor(log, func(string) store.Reader { return nil }, nil)
	auditor.Now = time.Now
	report, err := auditor.Audit(t.Context(), books.Query{From: 1, To: telemetry.Time(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	all := int64(len(log.Records(ingested)))
	d := report.Total
	if !report.Complete || d.Unread != 0 || d.Read != all || d.Telemetry != int64(channels) || d.Logs != int64(lines) || d.Repeats != all-d.Telemetry-d.Logs {
		t.Errorf("the books tell of %+v (%q), want %d records, %d of them channels and %d logs", d, report.Notes, all, channels, lines)
	}
}

// checkRouted wants the accounts to tell of every record once, in the topic where its readers take it.
func checkRouted(t *testing.T, log *mem.Log, channels, lines, refused int) {
	t.Helper()
	auditor := books.NewAuditor(log, func(string) store.Reader { return nil }, nil)
	auditor.Now = time.Now
	report, err := auditor.Audit(t.Context(), books.Query{From: 1, To: telemetry.Time(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	all := int64(len(log.Records(ingested)))
	d := report.Total
	events := all - int64(channels+lines+refused)
	if !report.Complete || d.Unread != 0 || d.Read != all || d.Telemetry != int64(channels) || d.Logs != int64(lines) || d.Events != events || d.Refused != int64(refused) {
		t.Errorf("the books tell of %+v (%q), want %d records: %d, %d and %d, and %d refused", d, report.Notes, all, channels, lines, events, refused)
	}
}

// putSome appends messages of several kinds, some of which are the device's own repeats, and adds to want where they belong.
func putSome(t *testing.T, log *mem.Log, plan *rand.Rand, want map[string][]string, next int) int {
	t.Helper()
	var messages []telemetry.Message
	for range plan.IntN(5) {
		next++
		m := channel(fmt.Sprint("m", next), "t", "1", float64(next%4))
		home := bus.Telemetry
		if plan.IntN(3) == 0 {
			m.Kind, m.HasValue, home = telemetry.KindLog, false, bus.Logs
		}
		want[home] = append(want[home], m.MessageID)
		if m.HasValue && m.Value > 1 {
			want["copies"] = append(want["copies"], m.MessageID)
		}
		for range 1 + plan.IntN(6)/4 {
			messages = append(messages, m)
		}
	}
	if len(messages) > 0 {
		put(t, log, messages...)
	}
	return next
}

// takenFrom returns the ids that a reader takes, which goes by origin.
func takenFrom(t *testing.T, log *mem.Log, topic string) []string {
	t.Helper()
	var origins bus.Origins
	var ids []string
	for _, r := range log.Records(bus.PartitionID{Topic: topic}) {
		if !origins.Take(r.Origin) {
			continue
		}
		head, err := telemetry.PeekMessage(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, head.MessageID)
	}
	return ids
}
