package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

const second = telemetry.Time(1_000_000_000)

// table is what a store makes of the rows of a task, by window.
type table struct {
	t      *testing.T
	folder *Folder
	rows   map[store.WindowKey]store.AggregateRow
}

func newTable(t *testing.T) *table {
	t.Helper()
	f, err := NewFolder()
	if err != nil {
		t.Fatal(err)
	}
	return &table{t: t, folder: f, rows: make(map[store.WindowKey]store.AggregateRow)}
}

// take commits what is in out.
func (b *table) take(out *Output) {
	b.t.Helper()
	for i := range out.Rows {
		r := out.Rows[i]
		r.Aggregate = r.Clone()
		r.State = slices.Clone(r.State)
		key := store.WindowKey{
			Tenant: r.Tenant, DeviceID: r.DeviceID, ChannelKey: r.ChannelKey, WindowStart: r.WindowStart, WindowLength: r.WindowLength,
		}
		old, known := b.rows[key]
		switch {
		case IsDelta(&r) && known:
			if err := b.folder.Merge(&old, &r); err != nil {
				b.t.Fatal(err)
			}
			old.Revision++
			r = old
		case known:
			b.t.Fatalf("window %+v closed twice", key)
		default:
			r.Revision = 1
		}
		b.rows[key] = r
	}
	clear(out.Rows)
	clear(out.Publish)
	out.Rows, out.Publish = out.Rows[:0], out.Publish[:0]
}

// contents returns the rows without their revisions, as text by key.
func (b *table) contents() map[string]string {
	all := make(map[string]string)
	for key, r := range b.rows {
		r.Revision, r.DeviceType = 0, ""
		all[fmt.Sprint(key)] = fmt.Sprintf("%+v", r.Aggregate)
	}
	return all
}

func (b *table) wantSame(want map[string]string) {
	b.t.Helper()
	got := b.contents()
	for key, row := range want {
		if got[key] != row {
			b.t.Fatalf("window %s\n got %s\nwant %s", key, got[key], row)
		}
	}
	if len(got) != len(want) {
		b.t.Fatalf("%d windows, want %d", len(got), len(want))
	}
}

// sample is one message of a test.
type sample struct {
	device, channel string
	at, ingest      telemetry.Time
	value           float64
	seq             uint64
}

func (s sample) record() bus.Record {
	m := telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: s.device, Kind: telemetry.KindChannel, ChannelKey: s.channel, Value: s.value, HasValue: true,
		EventTime: s.at, IngestTime: s.ingest,
	}
	return bus.Record{Origin: bus.Origin{Position: bus.Position{Seq: s.seq}}, Value: telemetry.AppendMessage(nil, &m)}
}

// brute computes the windows of samples the plain way.
func brute(specs []Spec, samples []sample) map[string]string {
	all := make(map[string]string)
	put := func(key store.WindowKey, part []sample) {
		slices.SortFunc(part, func(a, b sample) int {
			if a.at != b.at {
				return int(a.at - b.at)
			}
			return int(a.seq) - int(b.seq)
		})
		a := telemetry.Aggregate{
			Tenant: key.Tenant, DeviceID: key.DeviceID, ChannelKey: key.ChannelKey, WindowStart: key.WindowStart, WindowLength: key.WindowLength,
			Count: uint64(len(part)), First: part[0].value, FirstTime: part[0].at, Final: true,
			Last: part[len(part)-1].value, LastTime: part[len(part)-1].at,
		}
		var values []float64
		for _, s := range part {
			values = append(values, s.value)
		}
		slices.Sort(values)
		var sum total
		for _, v := range values {
			sum.add(v)
		}
		n := len(values)
		at := func(q float64) float64 { return values[max(int(math.Ceil(q*float64(n)))-1, 0)] }
		a.Min, a.Max, a.Sum, a.P50, a.P95, a.P99 = values[0], values[n-1], sum.value(), at(0.50), at(0.95), at(0.99)
		all[fmt.Sprint(key)] = fmt.Sprintf("%+v", a)
	}
	for key, part := range cut(specs, samples) {
		put(key, part)
	}
	return all
}

// cut sorts samples into windows.
func cut(specs []Spec, samples []sample) map[store.WindowKey][]sample {
	parts := make(map[store.WindowKey][]sample)
	key := func(s sample, start, length telemetry.Time) store.WindowKey {
		return store.WindowKey{
			Tenant: telemetry.DefaultTenant, DeviceID: s.device, ChannelKey: s.channel, WindowStart: start, WindowLength: int64(length),
		}
	}
	ordered := slices.Clone(samples)
	slices.SortFunc(ordered, func(a, b sample) int { return int(a.at - b.at) })
	for _, spec := range specs {
		hop := telemetry.Time(max(spec.Hop, 0))
		if spec.Kind == Tumbling {
			hop = telemetry.Time(spec.Length)
		}
		sessions := make(map[[2]string][]sample)
		closeSession := func(k [2]string) {
			if part := sessions[k]; len(part) > 0 {
				start := part[0].at
				parts[key(part[0], start, part[len(part)-1].at+telemetry.Time(spec.Gap)-start)] = part
			}
			sessions[k] = nil
		}
		for _, s := range ordered {
			if spec.Kind == Session {
				k := [2]string{s.device, s.channel}
				if part := sessions[k]; len(part) > 0 && s.at-part[len(part)-1].at >= telemetry.Time(spec.Gap) {
					closeSession(k)
				}
				sessions[k] = append(sessions[k], s)
				continue
			}
			for start := s.at - s.at%hop; start+telemetry.Time(spec.Length) > s.at; start -= hop {
				k := key(s, start, telemetry.Time(spec.Length))
				parts[k] = append(parts[k], s)
			}
		}
		for k := range sessions {
			closeSession(k)
		}
	}
	return parts
}

// samplesOf makes samples of a few devices within some minutes, with values of two decimals.
func samplesOf(rnd *rand.Rand, n int) []sample {
	const base = 1_700_000_000 * second
	samples := make([]sample, n)
	for i := range samples {
		at := base + telemetry.Time(rnd.Int64N(int64(200*second)))
		if rnd.IntN(4) == 0 {
			at -= at % second // some at the same moment, and on the edge of windows
		}
		samples[i] = sample{
			device: fmt.Sprint("d", rnd.IntN(3)), channel: fmt.Sprint("c", rnd.IntN(3)), at: at,
			value: math.Round(rnd.NormFloat64()*1e4) / 100, seq: uint64(i + 1),
		}
		if samples[i].value == 0 {
			samples[i].value = 0
		}
	}
	return samples
}

// finish closes everything: the devices are silent for a long time.
func finish(task *Task, out *Output, book *table, now telemetry.Time) {
	task.Tick(out, now+100_000*second, now+100_000*second)
	book.take(out)
}
