package aggregator_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	aggregator "github.com/millrace/millrace/services/aggregator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plant runs the aggregator on a log and a store in memory, in virtual time.
type plant struct {
	t      *testing.T
	cfg    aggregator.Config
	disk   *mem.Log
	log    *mem.Log // the running worker's handle
	table  *table
	reg    *prometheus.Registry
	seq    uint64
	cancel context.CancelFunc
	ended  chan error
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	return &plant{t: t, cfg: aggregator.DefaultConfig(), disk: mem.New(mem.Config{Now: time.Now}), table: newTable()}
}

func (p *plant) start() {
	p.t.Helper()
	p.log, p.reg, p.ended = p.disk.Open(), prometheus.NewRegistry(), make(chan error, 1)
	ctx, cancel := context.WithCancel(p.t.Context())
	p.cancel = cancel
	go func() {
		p.ended <- aggregator.Run(ctx, p.cfg, aggregator.Deps{Bus: p.log, Store: p.table, Metrics: p.reg, Now: time.Now})
	}()
}

func (p *plant) crash() {
	p.t.Helper()
	p.log.Crash()
	if err := <-p.ended; err == nil {
		p.t.Fatal("Run returned nil although its log was gone")
	}
	p.cancel()
}

func (p *plant) stop() {
	p.t.Helper()
	p.cancel()
	if err := <-p.ended; err != nil {
		p.t.Fatal(err)
	}
}

// send sends a value; event is its time before now.
func (p *plant) send(device, channel string, value float64, ago time.Duration) telemetry.Message {
	p.t.Helper()
	p.seq++
	now := telemetry.At(time.Now())
	m := telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: device, DeviceType: "T", Kind: telemetry.KindChannel, ChannelKey: channel,
		Value: value, HasValue: true, EventTime: now.Add(-ago), IngestTime: now,
	}
	r := bus.Record{Value: telemetry.AppendMessage(nil, &m), Origin: bus.Origin{Position: bus.Position{Seq: p.seq}}}
	if err := p.disk.Append(p.t.Context(), bus.PartitionID{Topic: bus.Telemetry}, []bus.Record{r}); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// published returns what the topic aggregates has.
func (p *plant) published() (all []telemetry.Aggregate) {
	p.t.Helper()
	for _, r := range p.disk.Records(bus.PartitionID{Topic: bus.Aggregates}) {
		var a telemetry.Aggregate
		if err := telemetry.ParseAggregate(r.Value, &a); err != nil {
			p.t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

func (p *plant) row(device string, length time.Duration) store.AggregateRow {
	p.t.Helper()
	var found []store.AggregateRow
	for key, r := range p.table.all() {
		if key.DeviceID == device && key.WindowLength == int64(length) {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		p.t.Fatalf("%d windows of %v of %s, want 1", len(found), length, device)
	}
	return found[0]
}

func (p *plant) count(metric string) float64 {
	p.t.Helper()
	all, err := p.reg.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "millrace_aggregator_"+metric {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	p.t.Fatalf("no metric %s", metric)
	return 0
}

func settle(d time.Duration) {
	<-time.After(d) // virtual
	synctest.Wait()
}

func TestAWindowRunsIsWrittenAndIsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it begins at midnight, 2000-01-01
		p := newPlant(t)
		p.cfg.Windows = p.cfg.Windows[1:2] // 1m
		p.start()
		p.send("d", "t", 1, 0)
		settle(2500 * time.Millisecond)
		all := p.published()
		if len(all) != 1 || all[0].Final || all[0].Count != 1 || all[0].Revision != 0 {
			t.Fatalf("published %+v, want running values once", all)
		}
		p.send("d", "t", 3, 0)
		settle(2 * time.Minute)
		row := p.row("d", time.Minute)
		if row.Count != 2 || row.Sum != 4 || row.Revision != 1 || !row.Final || row.DeviceType != "T" {
			t.Fatalf("row %+v", row)
		}
		p.send("d", "t", 8, 2*time.Minute)
		p.send("d", "t", 4, 2*time.Minute)
		settle(5 * time.Second)
		row = p.row("d", time.Minute)
		if row.Count != 4 || row.Sum != 16 || row.Max != 8 || row.Revision != 2 {
			t.Fatalf("corrected row %+v", row)
		}
		all = p.published()
		if last := all[len(all)-1]; last != row.Aggregate {
			t.Fatalf("published %+v, want %+v", last, row.Aggregate)
		}
		if n := p.count("corrected_total"); n != 1 {
			t.Fatalf("%v corrections, want 1", n)
		}
		p.stop()
	})
}

func TestADeviceWhoseClockIsYearsBehindHasItsWindowsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t)
		p.cfg.Windows = p.cfg.Windows[2:] // 1h
		p.start()
		start := time.Now()
		const years = 5 * 365 * 24 * time.Hour
		for range 5 { // its clock stands still, and each time it is silent for minutes
			p.send("d", "t", 2, years+time.Since(start))
			settle(7 * time.Minute)
		}
		if row := p.row("d", time.Hour); row.Count != 5 || row.Sum != 10 || row.Revision != 5 {
			t.Fatalf("row %+v", row)
		}
		settle(3 * time.Hour) // now the state is forgotten, and what comes cannot be merged any more
		p.send("d", "t", 2, years+time.Since(start))
		settle(7 * time.Minute)
		if row := p.row("d", time.Hour); row.Count != 5 || row.Sum != 10 || p.count("forgotten_total") != 1 {
			t.Fatalf("row %+v, forgotten %v", row, p.count("forgotten_total"))
		}
		if p.table.forgets == 0 {
			t.Fatal("states are never forgotten")
		}
		p.stop()
	})
}

// TestNoMessageCountsTwiceWhateverGoesWrong sends late and early messages while the store loses answers and the process dies.
func TestNoMessageCountsTwiceWhateverGoesWrong(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 9))
				p := newPlant(t)
				p.cfg.Windows = p.cfg.Windows[:2]
				if seed%3 == 0 {
					p.cfg.WindowsMax = 3
				}
				faults := rand.New(rand.NewPCG(seed, 10)) // of the worker's goroutine, under the table's lock
				p.table.fault = func(string) error {
					if faults.IntN(4) == 0 {
						return errBroken
					}
					return nil
				}
				p.start()
				var sent []telemetry.Message
				for range 400 {
					ago := time.Duration(rnd.Int64N(int64(5 * time.Second)))
					if rnd.IntN(5) == 0 {
						ago = time.Duration(rnd.Int64N(int64(20 * time.Minute)))
					}
					sent = append(sent, p.send(fmt.Sprint("d", rnd.IntN(2)), "t", float64(rnd.IntN(100)), ago))
					synctest.Wait()
					<-time.After(time.Duration(rnd.Int64N(int64(2 * time.Second))))
					if rnd.IntN(40) == 0 {
						p.crash()
						p.start()
					}
				}
				settle(time.Hour)
				p.stop()
				wantWindows(t, p.table.all(), p.cfg, sent)
				wantPublished(t, p)
			})
		})
	}
}

// wantWindows holds the rows against what the messages say.
func wantWindows(t *testing.T, rows map[store.WindowKey]store.AggregateRow, cfg aggregator.Config, sent []telemetry.Message) {
	t.Helper()
	values := make(map[store.WindowKey][]float64)
	for _, m := range sent {
		for _, w := range cfg.Windows {
			key := store.WindowKey{
				Tenant: m.Tenant, DeviceID: m.DeviceID, ChannelKey: m.ChannelKey,
				WindowStart: m.EventTime - m.EventTime%telemetry.Time(w.Length), WindowLength: int64(w.Length),
			}
			values[key] = append(values[key], m.Value)
		}
	}
	for key, v := range values {
		slices.Sort(v)
		sum := 0.0
		for _, x := range v {
			sum += x
		}
		want := fmt.Sprint(len(v), v[0], v[len(v)-1], sum, v[int(math.Ceil(0.5*float64(len(v))))-1])
		r := rows[key]
		if got := fmt.Sprint(r.Count, r.Min, r.Max, r.Sum, r.P50); got != want {
			t.Errorf("window %+v: %s, want %s", key, got, want)
		}
	}
	if len(rows) != len(values) {
		t.Errorf("%d windows, want %d", len(rows), len(values))
	}
}

// wantPublished holds the topic to the store: of each window the last final record equals its row.
func wantPublished(t *testing.T, p *plant) {
	t.Helper()
	last := make(map[store.WindowKey]telemetry.Aggregate)
	for _, a := range p.published() {
		if a.Final {
			last[keyOf(&a)] = a
		}
	}
	for key, r := range p.table.all() {
		if last[key] != r.Aggregate {
			t.Errorf("window %+v: published %+v, want %+v", key, last[key], r.Aggregate)
		}
	}
}

func TestWhatIsNoMessageBecomesADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t)
		p.start()
		if err := p.disk.Append(t.Context(), bus.PartitionID{Topic: bus.Telemetry}, []bus.Record{{Value: []byte("\xff")}}); err != nil {
			t.Fatal(err)
		}
		p.send("d", "t", math.Inf(1), 0)
		p.send("d", "t", 5, 0)
		settle(2 * time.Minute)
		letters := p.disk.Records(bus.PartitionID{Topic: bus.DeadLetters})
		if len(letters) != 2 {
			t.Fatalf("%d dead letters, want 2", len(letters))
		}
		var d telemetry.DeadLetter
		if err := telemetry.ParseDeadLetter(letters[1].Value, &d); err != nil || d.Reason != "value: +Inf, want a finite number" {
			t.Fatalf("reason %q, %v", d.Reason, err)
		}
		if row := p.row("d", 10*time.Second); row.Count != 1 {
			t.Fatalf("row %+v", row)
		}
		p.stop()
	})
}

func TestEveryFaultOfAConfigurationIsReportedByItsKey(t *testing.T) {
	cfg := aggregator.Config{
		Windows: []aggregator.WindowSpec{
			{Kind: "tumbling"},
			{Kind: "hopping", Length: time.Hour, Hop: time.Second},
			{Kind: "session", Gap: time.Minute, Length: time.Second},
			{Kind: "sliding", Length: time.Minute},
		},
		Lateness: -1, CorrectWithin: 8 * 24 * time.Hour, CommitEvery: time.Hour,
	}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"windows[0].length: 0s, want 100ms to 744h0m0s", "windows[1].hop: 1s, want 56.25s to 1h0m0s", "windows[2].length: 1s, want none for kind session",
		`windows[3].kind: "sliding", want tumbling, hopping or session`, "windows[3]: windows[2] has the same length or gap, 1m0s",
		"lateness: -1ns, want 0s to 24h0m0s", "correct_within: 192h0m0s, want", "commit_every: 1h0m0s, want", "running_max: 0, want 1 to",
		"devices_max: 0", "channels_max: 0", "windows_max: 0",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
	if err := aggregator.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

func TestItsMetricsBearGoodNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t)
		p.start()
		synctest.Wait()
		if problems, err := testutil.GatherAndLint(p.reg); err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		p.stop()
	})
}
