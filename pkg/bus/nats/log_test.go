package nats_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
)

const patience = 60 * time.Second

var ingested0 = bus.PartitionID{Topic: bus.Ingested}

func readAll(t *testing.T, log bus.Log, start bus.Start) []bus.Record {
	t.Helper()
	p, err := log.Partition(t.Context(), ingested0)
	if err != nil {
		t.Fatal(err)
	}
	end, err := p.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var recs []bus.Record
	for batch, err := range p.After(ctx, start) {
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, batch.Records...)
		if batch.Last().Compare(end) >= 0 {
			break
		}
	}
	return recs
}

func one(value string) []bus.Record { return []bus.Record{{Value: []byte(value)}} }

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(5*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestAnAppendWhoseAnswerWasLostIsThereOnceWhenItIsSentAgainAndEqualOnesAfterItAreNot(t *testing.T) {
	server := startProcess(t)
	between := startProxy(t, server.url)
	log := openLog(t, nats.Config{URL: between.url(), Partitions: 1})
	between.mute.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := log.Append(ctx, ingested0, one("a")); err == nil || errors.Is(err, bus.ErrFull) {
		t.Fatalf("without an answer Append returned %v", err)
	}
	between.mute.Store(false)
	between.cut()
	eventually(t, "the append sent again", func() bool { return log.Append(t.Context(), ingested0, one("a")) == nil })
	if got := readAll(t, log, bus.Start{}); len(got) != 1 {
		t.Errorf("the log has %d records, want the one", len(got))
	}
	if err := log.Append(t.Context(), ingested0, one("a")); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, log, bus.Start{}); len(got) != 2 {
		t.Errorf("the log has %d records after another append of the same", len(got))
	}
}

func TestALostConnectionFailsAnAppendAtOnceAndBreaksAReaderWhoThenGoesOn(t *testing.T) {
	server := startProcess(t)
	between := startProxy(t, server.url)
	log := openLog(t, nats.Config{URL: between.url(), Partitions: 1})
	between.mute.Store(true)
	failed := make(chan error, 1)
	began := time.Now()
	go func() { failed <- log.Append(t.Context(), ingested0, one("a")) }()
	eventually(t, "the append to get to the server", func() bool {
		direct := openLog(t, nats.Config{URL: server.url, Partitions: 1})
		p, err := direct.Partition(t.Context(), ingested0)
		if err != nil {
			return false
		}
		end, err := p.End(t.Context())
		return err == nil && !end.IsZero()
	})
	between.mute.Store(false)
	between.cut()
	if err := <-failed; err == nil || time.Since(began) > 8*time.Second {
		t.Errorf("after %v Append returned %v", time.Since(began), err)
	}
	p, err := log.Partition(t.Context(), ingested0)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(got)
		for ctx.Err() == nil {
			for _, err := range p.After(ctx, bus.Start{}) {
				got <- err
				if err != nil {
					break
				}
			}
		}
	}()
	wanted := func(ok bool) {
		t.Helper()
		for deadline := time.After(patience); ; {
			select {
			case err := <-got:
				if (err == nil) == ok {
					return
				}
			case <-deadline:
				t.Fatal("nothing read")
			}
		}
	}
	wanted(true)
	between.cut()
	wanted(false)
	wanted(true)
	cancel()
	for range got {
		continue // until the reader has ended
	}
}

func TestBytesThatAreNotOursAreOneRecordSoThatTheReaderCanRefuseThem(t *testing.T) {
	server := startProcess(t)
	log := openLog(t, nats.Config{URL: server.url, Partitions: 1})
	if err := log.Append(t.Context(), ingested0, one("ours")); err != nil {
		t.Fatal(err)
	}
	conn, err := natsgo.Connect(server.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Request("mr.ingested.0", []byte("theirs"), patience); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, log, bus.Start{})
	if len(got) != 2 || string(got[1].Value) != "theirs" || got[1].Origin.Known() {
		t.Errorf("got %v", got)
	}
}

func TestTheNumberOfPartitionsCannotBeChanged(t *testing.T) {
	server := startProcess(t)
	openLog(t, nats.Config{URL: server.url, Partitions: 2})
	for _, n := range []int{1, 3} {
		_, err := nats.Open(t.Context(), nats.Config{URL: server.url, Partitions: n, Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), `was made with "2" partitions`) {
			t.Errorf("with %d partitions: %v", n, err)
		}
	}
	openLog(t, nats.Config{URL: server.url, Partitions: 2, Topics: []string{"mine"}, Retention: nats.Retention{BytesMax: 1 << 30}})
}

func TestEveryFaultOfAConfigIsReported(t *testing.T) {
	_, err := nats.Open(t.Context(), nats.Config{
		Prefix: "a.b", Partitions: -1, Topics: []string{"a topic"}, FrameBytesMax: 1 << 30, Lease: 1, DedupeWindow: 1,
		Retention: nats.Retention{Age: -1, BytesMax: 1}, RecordBytesMax: -1,
	})
	for _, want := range []string{
		"url: empty", "now: nil", "prefix: \"a.b\"", "partitions: -1", "topics: \"a topic\"", "retention.age", "frame_bytes_max",
		"record_bytes_max: -1", "lease: 1ns", "dedupe_window: 1ns",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
}

// holds asks whether the partition has anything that was not trimmed away.
func holds(t *testing.T, log bus.Log) bool {
	t.Helper()
	p, err := log.Partition(t.Context(), ingested0)
	if err != nil {
		t.Fatal(err)
	}
	h, ok := p.(interface {
		Holds(ctx context.Context) (bool, error)
	})
	if !ok {
		t.Fatal("it does not say what it holds")
	}
	yes, err := h.Holds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return yes
}

func TestTrimKeepsWhatAKnownGroupHasNotReadAndDropsTheRestWhenItIsOld(t *testing.T) {
	cases := []struct {
		name    string
		readers map[string][]string
		group   string // commits through the second record
		age     time.Duration
		want    string
	}{
		{"no group", nil, "", time.Nanosecond, ""},
		{"no group, young", nil, "", time.Hour, "abc"},
		{"a group that is configured and has read nothing", map[string][]string{bus.Ingested: {"late"}}, "", time.Nanosecond, "abc"},
		{"a group that has read two", nil, "g", time.Nanosecond, "bc"}, // the frame of its position itself stays
		{"a slower one beside it", map[string][]string{bus.Ingested: {"late", "g"}}, "g", time.Nanosecond, "abc"},
		{"a group that has read two, young", nil, "g", time.Hour, "abc"},
	}
	server := startProcess(t)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			log := openLog(t, nats.Config{
				URL: server.url, Prefix: "T" + string(rune('A'+i)), Partitions: 1, Readers: c.readers, Retention: nats.Retention{Age: c.age},
			})
			var through []bus.Record
			for _, v := range []string{"a", "b", "c"} {
				if err := log.Append(t.Context(), ingested0, one(v)); err != nil {
					t.Fatal(err)
				}
			}
			through = readAll(t, log, bus.Start{})
			if c.group != "" {
				err := log.Subscribe(t.Context(), c.group, []string{bus.Ingested}, func(ctx context.Context, s bus.Share) error {
					return s.Partitions[0].Commit(ctx, bus.Progress{Through: through[1].Position})
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := log.Trim(t.Context()); err != nil {
				t.Fatal(err)
			}
			if holds := holds(t, log); holds != (c.want != "") {
				t.Errorf("it says that it holds something: %v, want %q", holds, c.want)
			}
			got := ""
			if err := log.Append(t.Context(), ingested0, one(".")); err != nil { // so that there is something to read
				t.Fatal(err)
			}
			for _, r := range readAll(t, log, bus.Start{}) {
				got += string(r.Value)
			}
			if got != c.want+"." {
				t.Errorf("left is %q, want %q", got, c.want)
			}
			if c.want == "bc" { // a start that was trimmed away begins at the earliest
				if rest := readAll(t, log, bus.Start{Position: bus.Position{Seq: 1}}); string(rest[0].Value) != "b" {
					t.Errorf("after 1.0 the first is %q", rest[0].Value)
				}
			}
		})
	}
}
