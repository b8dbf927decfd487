package nats_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
)

const mendRecords = 300

// mended is a log of one partition on an embedded server in dir, as an instance has it.
type mended struct {
	log  *nats.Log
	stop func()
}

func openMended(t *testing.T, dir string) *mended {
	t.Helper()
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	log, err := nats.Open(t.Context(), nats.Config{Conn: conn, Synced: true, Now: time.Now, Partitions: 1, Ends: filepath.Join(dir, "log-ends.json")})
	if err != nil {
		t.Fatal(err)
	}
	m := &mended{log: log}
	m.stop = func() {
		m.stop = func() {}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		conn.Close()
		server.Shutdown()
	}
	t.Cleanup(func() { m.stop() })
	return m
}

func (m *mended) append(t *testing.T, topic string, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		rec := bus.Record{Value: fmt.Appendf(nil, "%s %0200d", topic, i)}
		if topic != bus.Ingested {
			rec.Origin = bus.Origin{Position: bus.Position{Seq: uint64(i)}}
		}
		if err := m.log.Append(t.Context(), bus.PartitionID{Topic: topic}, []bus.Record{rec}); err != nil {
			t.Fatal(err)
		}
	}
}

// commit lets a group commit what it has read of a topic.
func (m *mended) commit(t *testing.T, group, topic string, through uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := m.log.Subscribe(ctx, group, []string{topic}, func(ctx context.Context, s bus.Share) error {
		defer cancel()
		if through == 0 {
			return nil
		}
		return s.Partitions[0].Commit(ctx, bus.Progress{Through: bus.Position{Seq: through}})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (m *mended) positions(t *testing.T, topic string) []uint64 {
	t.Helper()
	part, err := m.log.Partition(t.Context(), bus.PartitionID{Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	end, err := part.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []uint64
	if end.IsZero() {
		return nil
	}
	for batch, err := range part.After(t.Context(), bus.Start{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch.Records {
			all = append(all, r.Position.Seq)
		}
		if batch.Last().Compare(end) >= 0 {
			break
		}
	}
	return all
}

func (m *mended) mend(t *testing.T, witnesses ...nats.Witness) []nats.Loss {
	t.Helper()
	losses, err := m.log.Mend(t.Context(), witnesses)
	if err != nil {
		t.Fatal(err)
	}
	return losses
}

func stream(dir, topic, file string) string {
	return filepath.Join(dir, "log", "jetstream", "$G", "streams", "MR_"+topic+"_0", file)
}

func truncate(t *testing.T, path string, numerator, denominator int64) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, st.Size()*numerator/denominator); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 2; i < len(b)/2+8 && i < len(b); i++ {
		b[i] ^= 0xff
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func TestWhatTheLogLostIsNamedOnceAndItsPositionsAreNotGivenAgain(t *testing.T) {
	block := func(dir string) string { return stream(dir, bus.Ingested, "msgs/1.blk") }
	index := func(dir string) string { return stream(dir, bus.Ingested, "msgs/index.db") }
	directory := func(t *testing.T, path string) {
		t.Helper()
		remove(t, path)
		if err := os.MkdirAll(path, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		lost   bool
	}{
		{"nothing", func(*testing.T, string) {}, false},
		{"block cut", func(t *testing.T, dir string) { t.Helper(); truncate(t, block(dir), 1, 2) }, true},
		{"block cut, no index", func(t *testing.T, dir string) { t.Helper(); truncate(t, block(dir), 1, 2); remove(t, index(dir)) }, true},
		{"block empty", func(t *testing.T, dir string) { t.Helper(); truncate(t, block(dir), 0, 1) }, true},
		{"block empty, no index", func(t *testing.T, dir string) { t.Helper(); truncate(t, block(dir), 0, 1); remove(t, index(dir)) }, true},
		{"block flipped", func(t *testing.T, dir string) { t.Helper(); flip(t, block(dir)) }, true},
		{"block gone", func(t *testing.T, dir string) { t.Helper(); remove(t, block(dir)) }, true},
		{"block a directory", func(t *testing.T, dir string) { t.Helper(); directory(t, block(dir)) }, true},
		{"stream gone", func(t *testing.T, dir string) { t.Helper(); remove(t, stream(dir, bus.Ingested, "")) }, true},
		{"index flipped", func(t *testing.T, dir string) { t.Helper(); flip(t, index(dir)) }, false},
		{"index gone", func(t *testing.T, dir string) { t.Helper(); remove(t, index(dir)) }, false},
		{"metadata flipped", func(t *testing.T, dir string) { t.Helper(); flip(t, stream(dir, bus.Ingested, "meta.inf")) }, false},
		{"metadata empty", func(t *testing.T, dir string) { t.Helper(); truncate(t, stream(dir, bus.Ingested, "meta.inf"), 0, 1) }, false},
		{"checksum of metadata gone", func(t *testing.T, dir string) { t.Helper(); remove(t, stream(dir, bus.Ingested, "meta.sum")) }, false},
		{"ends damaged", func(t *testing.T, dir string) { t.Helper(); flip(t, filepath.Join(dir, "log-ends.json")) }, false},
		{"ends gone, block cut", func(t *testing.T, dir string) {
			t.Helper()
			remove(t, filepath.Join(dir, "log-ends.json"))
			truncate(t, block(dir), 1, 2)
			remove(t, index(dir))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := openMended(t, dir)
			if losses := m.mend(t); len(losses) > 0 {
				t.Fatalf("a new log has lost %v", losses)
			}
			m.append(t, bus.Ingested, 1, mendRecords)
			m.commit(t, "router", bus.Ingested, mendRecords-10)
			// The witness is a derived topic: it has the origins of everything.
			m.append(t, bus.Telemetry, mendRecords-1, mendRecords)
			m.stop()
			c.damage(t, dir)

			m = openMended(t, dir)
			losses := m.mend(t)
			if c.lost != (len(losses) > 0) {
				t.Fatalf("lost %v, want %v", losses, c.lost)
			}
			left := m.positions(t, bus.Ingested)
			for _, l := range losses {
				if l.Partition.Topic != bus.Ingested || l.Through != mendRecords || int(l.Through-l.From)+1+len(left) != mendRecords {
					t.Errorf("%v, but %d records are left", l, len(left))
				}
				if from := l.Unread["router"]; from != max(l.From, mendRecords-9) {
					t.Errorf("%v, want it unread by the router from %d on", l, mendRecords-9)
				}
			}
			m.append(t, bus.Ingested, 1, 3)
			after := m.positions(t, bus.Ingested)
			if len(after) != len(left)+3 || after[len(left)] <= mendRecords {
				t.Errorf("after the damage positions %v were given, want 3 above %d", after[len(left):], mendRecords)
			}
			m.stop()
			m = openMended(t, dir)
			if again := m.mend(t); len(again) > 0 {
				t.Errorf("told again: %v", again)
			}
			if now := m.positions(t, bus.Ingested); len(now) != len(after) {
				t.Errorf("%d records, want %d", len(now), len(after))
			}
		})
	}
}

func TestAnEndThatIsAFillerIsTheNewestRecordsPlace(t *testing.T) {
	dir := t.TempDir()
	m := openMended(t, dir)
	m.mend(t)
	m.append(t, bus.Ingested, 1, mendRecords)
	m.stop()
	truncate(t, stream(dir, bus.Ingested, "msgs/1.blk"), 1, 2)
	m = openMended(t, dir)
	m.mend(t)
	part, err := m.log.Partition(t.Context(), bus.PartitionID{Topic: bus.Ingested})
	if err != nil {
		t.Fatal(err)
	}
	end, err := part.End(t.Context())
	left := m.positions(t, bus.Ingested)
	if err != nil || len(left) == 0 || end.Seq != left[len(left)-1] {
		t.Errorf("the end is %v (%v), want %d, the newest record", end, err, left[len(left)-1])
	}
	// A reader that was further than what is left goes on with what comes next.
	m.append(t, bus.Ingested, 1, 1)
	for batch, err := range part.After(t.Context(), bus.Start{Position: bus.Position{Seq: mendRecords}}) {
		if err != nil {
			t.Fatal(err)
		}
		if batch.Last().Seq <= mendRecords {
			t.Errorf("read %v", batch.Last())
		}
		break
	}
}

func TestWhatAStoreHasSeenOfAnOlderLogIsNotGivenAgain(t *testing.T) {
	dir := t.TempDir()
	m := openMended(t, dir)
	id := bus.PartitionID{Topic: bus.Telemetry}
	losses := m.mend(t, nats.Witness{Group: "state-projector", Partition: id, Progress: bus.Progress{
		Through: bus.Position{Seq: 70}, Origins: bus.Origins{{Position: bus.Position{Seq: 500}}},
	}})
	if len(losses) != 2 {
		t.Errorf("lost %v, want ingested through 500 and telemetry through 70", losses)
	}
	m.append(t, bus.Ingested, 1, 1)
	m.append(t, bus.Telemetry, 1, 1)
	if got := m.positions(t, bus.Ingested); len(got) != 1 || got[0] <= 500 {
		t.Errorf("ingested gave %v, want one above 500", got)
	}
	if got := m.positions(t, bus.Telemetry); len(got) != 1 || got[0] <= 70 {
		t.Errorf("telemetry gave %v, want one above 70", got)
	}
}

func TestAGroupIsSetBackAndNeverForward(t *testing.T) {
	m := openMended(t, t.TempDir())
	m.mend(t)
	m.append(t, bus.Ingested, 1, 20)
	m.commit(t, "router", bus.Ingested, 15)
	id := bus.PartitionID{Topic: bus.Ingested}
	for _, c := range []struct{ to, want uint64 }{{18, 15}, {7, 7}, {9, 7}} {
		if err := m.log.Rewind(t.Context(), "router", id, bus.Progress{Through: bus.Position{Seq: c.to}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err := m.log.Subscribe(ctx, "router", []string{bus.Ingested}, func(ctx context.Context, s bus.Share) error {
			defer cancel()
			got, _, err := s.Partitions[0].Committed(ctx)
			if got.Through.Seq != c.want {
				err = errors.Join(err, fmt.Errorf("set back to %d it is at %v, want %d", c.to, got.Through, c.want))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		cancel()
	}
}
