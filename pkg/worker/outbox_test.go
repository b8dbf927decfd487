package worker

import (
	"bytes"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

func TestAnOutboxComesBackAsItWasInFrontOfItsState(t *testing.T) {
	kept := Publication{Topic: bus.Alarms, Record: bus.Record{
		Origin: bus.Origin{Partition: 3, Position: bus.Position{Seq: 1 << 40, Index: 7}}, Value: []byte("raised"),
	}}
	empty := Publication{Topic: bus.Aggregates, Record: bus.Record{Value: []byte{}}}
	passing := Publication{Topic: bus.Aggregates, Record: bus.Record{Value: []byte("running")}, Passing: true}
	for _, c := range []struct {
		name string
		give []Publication
		want int
	}{{"nothing", nil, 0}, {"only what passes", []Publication{passing}, 0}, {"both", []Publication{kept, passing, empty}, 2}} {
		t.Run(c.name, func(t *testing.T) {
			got, state, err := splitOutbox(append(appendOutbox([]byte{}, c.give), "MRW state"...))
			if err != nil || string(state) != "MRW state" || len(got) != c.want {
				t.Fatalf("%d publications, state %q (%v), want %d", len(got), state, err, c.want)
			}
			if c.want > 0 && (got[0].Topic != kept.Topic || got[0].Record.Origin != kept.Record.Origin || !bytes.Equal(got[0].Record.Value, kept.Record.Value)) {
				t.Errorf("got %+v", got[0])
			}
		})
	}
}

func FuzzSplitOutbox(f *testing.F) {
	f.Add([]byte(outboxMagic))
	f.Add([]byte("MRW state"))
	f.Add(appendOutbox(nil, []Publication{{Topic: "alarms", Record: bus.Record{Value: []byte("raised")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, state, err := splitOutbox(b)
		if err == nil && len(all) > 0 && len(state) >= len(b) {
			t.Errorf("%d publications and all %d bytes are state", len(all), len(b))
		}
	})
}
