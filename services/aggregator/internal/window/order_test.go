package window

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

func aligned() Config {
	cfg := defaults()
	cfg.Specs = []Spec{
		{Kind: Tumbling, Length: 10 * time.Second},
		{Kind: Tumbling, Length: time.Minute},
		{Kind: Hopping, Length: 20 * time.Second, Hop: 7 * time.Second},
	}
	return cfg
}

// play gives samples in their order to a task, with ticks, commits and restarts in between, and returns the final rows.
func play(t *testing.T, cfg Config, rnd *rand.Rand, samples []sample) *table {
	t.Helper()
	fresh := func() *Task {
		task, err := New(cfg, new(Stats))
		if err != nil {
			t.Fatal(err)
		}
		return task
	}
	task, book := fresh(), newTable(t)
	var out Output
	now := telemetry.Time(0)
	for _, s := range samples {
		now = max(now, s.ingest)
		if err := task.Add(&out, bus.Telemetry, s.record()); err != nil {
			t.Fatal(err)
		}
		if rnd.IntN(10) == 0 {
			task.Tick(&out, now, now*telemetry.Time(rnd.IntN(3)/2))
		}
		if rnd.IntN(20) == 0 {
			book.take(&out)
			if rnd.IntN(3) == 0 {
				state, err := task.Snapshot(nil)
				if err != nil {
					t.Fatal(err)
				}
				task = fresh()
				if err := task.Restore(state); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	finish(task, &out, book, now)
	return book
}

func TestTheFinalRowsAreThoseOfBruteForceWhateverTheOrderOfArrival(t *testing.T) {
	limits := map[string]func(*Config){
		"with room":          func(*Config) {},
		"one device fits":    func(c *Config) { c.DevicesMax = 1 },
		"one channel fits":   func(c *Config) { c.ChannelsMax = 1 },
		"five windows fit":   func(c *Config) { c.WindowsMax = 5 },
		"no lateness":        func(c *Config) { c.Lateness = 0 },
		"no running values":  func(c *Config) { c.RunningEvery = 0 },
		"few running values": func(c *Config) { c.RunningMax = 2 },
	}
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) {
			cfg := aligned()
			limit(&cfg)
			for seed := range uint64(6) {
				rnd := rand.New(rand.NewPCG(seed, 2))
				samples := samplesOf(rnd, 500)
				want := brute(cfg.Specs, samples)
				rnd.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
				ingest := samples[0].at
				for i := range samples { // as live data, as an upload of the past, or from clocks ahead
					ingest += telemetry.Time(rnd.Int64N(int64(second)))
					samples[i].ingest = ingest + []telemetry.Time{0, 5000 * second, -200 * second}[seed%3]
				}
				play(t, cfg, rnd, samples).wantSame(want)
			}
		})
	}
}

func TestSessionsDoNotDependOnTheOrderOfArrivalWithinLateness(t *testing.T) {
	cfg := defaults()
	cfg.Specs = []Spec{{Kind: Session, Gap: 2 * time.Second}, {Kind: Session, Gap: 11 * time.Second}}
	for seed := range uint64(15) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		samples := samplesOf(rnd, 400)
		want := brute(cfg.Specs, samples)
		for i := range samples { // each is up to 30 s late, by its device's clock
			samples[i].ingest = samples[i].at + telemetry.Time(rnd.Int64N(int64(cfg.Lateness)))
		}
		sortByIngest(samples)
		play(t, cfg, rnd, samples).wantSame(want)
	}
}

func TestManyValuesBecomeASketchOfTheSameNumbersInAnyOrder(t *testing.T) {
	cfg := defaults()
	for seed := range uint64(2) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		samples := samplesOf(rnd, 5000)
		for i := range samples {
			samples[i].ingest = samples[i].at
		}
		want := play(t, cfg, rnd, samples).contents()
		rnd.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
		play(t, cfg, rnd, samples).wantSame(want)
	}
}
