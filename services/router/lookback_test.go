package router

import (
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
)

// origins returns records of messages from..to of partition n.
func origins(n int32, from, to uint64) (recs []bus.Record) {
	for seq := from; seq <= to; seq++ {
		recs = append(recs, bus.Record{Origin: bus.Origin{Partition: n, Position: bus.Position{Seq: seq}}, Value: []byte("m")})
	}
	return recs
}

func TestLookingBackFindsAllThatIsNotCommitted(t *testing.T) {
	type written struct {
		partition int32
		from, to  uint64
		alone     bool // each record is an append of its own
	}
	tests := []struct {
		name            string
		appends         []written
		trim            uint64
		committed       uint64
		from, to        uint64 // what is found
		whole           bool
		passed, doubted uint64 // positions that readers would pass over, and that may have been trimmed
	}{
		{name: "an empty topic"},
		{name: "nothing is committed", appends: []written{{0, 1, 300, true}}, from: 1, to: 300, whole: true},
		{name: "all is committed", appends: []written{{0, 1, 300, true}}, committed: 300, whole: true},
		{name: "several sections", appends: []written{{0, 1, 9000, true}}, committed: 7000, from: 7001, to: 9000, whole: true},
		{name: "many records at one position", appends: []written{{0, 1, 9000, false}, {0, 9001, 9900, false}}, committed: 8000, from: 8001, to: 9900, whole: true},
		{
			name:    "an append that came late",
			appends: []written{{0, 1, 900, true}, {0, 901, 1000, true}, {0, 850, 900, false}}, committed: 900, from: 901, to: 1000, whole: true,
		},
		{
			name:    "what former versions appended twice",
			appends: []written{{0, 1, 50, true}, {0, 20, 40, true}}, committed: 30, from: 31, to: 50, whole: true,
		},
		{name: "messages of another partition", appends: []written{{0, 1, 10, true}, {1, 1, 500, true}}, committed: 5, from: 6, to: 10, whole: true},
		{
			name:    "what is trimmed is in doubt",
			appends: []written{{0, 1, 100, true}, {0, 103, 200, true}}, trim: 90, committed: 50, from: 91, to: 200, passed: 102, doubted: 60,
		},
		{
			name:    "what is trimmed is known where it was committed",
			appends: []written{{0, 1, 100, true}, {0, 103, 200, true}}, trim: 90, committed: 95, from: 96, to: 200, whole: true, passed: 101,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := mem.New(mem.Config{Partitions: 2})
			id := bus.PartitionID{Topic: bus.Telemetry}
			for _, a := range tt.appends {
				recs := origins(a.partition, a.from, a.to)
				step := len(recs)
				if a.alone {
					step = 1
				}
				for i := 0; i < len(recs); i += step {
					if err := log.Append(t.Context(), id, recs[i:i+step]); err != nil {
						t.Fatal(err)
					}
				}
			}
			log.Trim(id, bus.Position{Seq: tt.trim})
			s := stood{topic: bus.Telemetry}
			if err := s.read(t.Context(), log, 0, bus.Position{Seq: tt.committed}); err != nil {
				t.Fatal(err)
			}
			for _, p := range s.at {
				if p.Seq <= tt.committed {
					t.Errorf("found %v, which is committed", p)
				}
			}
			if tt.to > 0 && (len(s.at) == 0 || s.at[0].Seq != tt.from || s.at[len(s.at)-1].Seq != tt.to) {
				t.Errorf("found %d: %v, want %d to %d", len(s.at), s.at, tt.from, tt.to)
			}
			if tt.to == 0 && len(s.at) > 0 {
				t.Errorf("found %v, want nothing", s.at)
			}
			if len(tt.appends) > 0 && s.whole != tt.whole {
				t.Errorf("whole is %v, want %v", s.whole, tt.whole)
			}
			if tt.doubted > 0 && s.passed(bus.Position{Seq: tt.doubted}) {
				t.Errorf("%d may have been trimmed, and is taken to have been passed over", tt.doubted)
			}
			if tt.passed > 0 && !s.passed(bus.Position{Seq: tt.passed}) {
				t.Errorf("%d is not taken to be passed over", tt.passed)
			}
		})
	}
}
