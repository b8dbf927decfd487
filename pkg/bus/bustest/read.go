package bustest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

func startAtPosition(t *testing.T, d Driver) {
	log := open(t, d).Log
	mustAppend(t, log, firstPartition(), "a", "b", "c")
	mustAppend(t, log, firstPartition(), "d")
	mustAppend(t, log, firstPartition(), "e", "f")
	p := partition(t, log, firstPartition())
	all := read(t, p, bus.Start{}, 6)
	for i, r := range all[:5] {
		if got, want := values(read(t, p, bus.Start{Position: r.Position}, 5-i)), values(all[i+1:]); got != want {
			t.Errorf("after %s: %q, want %q", r.Position, got, want)
		}
	}
}

func startAtTime(t *testing.T, d Driver) {
	log := open(t, d).Log
	p := partition(t, log, firstPartition())
	for _, v := range []string{"a", "b", "c"} {
		mustAppend(t, log, firstPartition(), v)
		<-time.After(2 * time.Millisecond) // so that the times differ, whatever the grain of the log's clock
	}
	all := read(t, p, bus.Start{}, 3)
	for i, r := range all {
		if got, want := values(read(t, p, bus.Start{Time: r.Time}, 3-i)), values(all[i:]); got != want {
			t.Errorf("from the time of %q: %q, want %q", r.Value, got, want)
		}
	}
	if got := values(read(t, p, bus.Start{Time: 1}, 3)); got != "a b c" {
		t.Errorf("from 1970: %q", got)
	}
}

func startAtNewest(t *testing.T, d Driver) {
	log := open(t, d).Log
	p := partition(t, log, firstPartition())
	fromEmpty := p.After(within(t), bus.Start{Newest: true})
	mustAppend(t, log, firstPartition(), "old")
	seq := p.After(within(t), bus.Start{Newest: true})
	mustAppend(t, log, firstPartition(), "new")
	for name, c := range map[string]struct {
		seq  func(func(bus.Batch, error) bool)
		want string
	}{"of an empty partition": {fromEmpty, "old"}, "of one with a record": {seq, "new"}} {
		for batch, err := range c.seq {
			if err != nil || string(batch.Records[0].Value) != c.want {
				t.Errorf("%s: %v, %v, want %q first", name, batch, err, c.want)
			}
			break
		}
	}
}

func startAhead(t *testing.T, d Driver) {
	log := open(t, d).Log
	mustAppend(t, log, firstPartition(), "a")
	p := partition(t, log, firstPartition())
	end, err := p.End(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range p.After(within(t), bus.Start{Position: bus.Position{Seq: end.Seq + 1}}) {
		if !errors.Is(err, bus.ErrAhead) {
			t.Errorf("got %v", err)
		}
		return
	}
	t.Error("the read ended without an error")
}

func waitAtEnd(t *testing.T, d Driver) {
	log := open(t, d).Log
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	got, done := make(chan string), make(chan error, 1)
	p := partition(t, log, firstPartition())
	go func() {
		defer close(done)
		for batch, err := range p.After(ctx, bus.Start{}) {
			if err != nil {
				done <- err
				return
			}
			for _, r := range batch.Records {
				got <- string(r.Value)
			}
		}
	}()
	for _, v := range []string{"a", "b", "c"} {
		mustAppend(t, log, firstPartition(), v)
		if r := await(t, "the record", got); r != v {
			t.Errorf("got %q, want %q", r, v)
		}
	}
	cancel()
	if err := await(t, "the end of reading", done); err != nil {
		t.Errorf("reading ended with %v", err)
	}
	for batch, err := range p.After(ctx, bus.Start{}) {
		t.Errorf("with an ended context: %v, %v", batch, err)
	}
}

func batchIsCallers(t *testing.T, d Driver) {
	log := open(t, d).Log
	mustAppend(t, log, firstPartition(), "a", "b")
	mustAppend(t, log, firstPartition(), "c")
	p := partition(t, log, firstPartition())
	kept := read(t, p, bus.Start{}, 3)
	for i := range kept {
		kept[i].Value = append(kept[i].Value[:0], 'x', 'y')
	}
	if got := values(read(t, p, bus.Start{}, 3)); got != "a b c" {
		t.Errorf("the log has %q now", got)
	}
	if got := values(kept); got != "xy xy xy" {
		t.Errorf("the records share their bytes: %q", got)
	}
}

func stopAndGoOn(t *testing.T, d Driver) {
	log := open(t, d).Log
	want := numbered(0, 30)
	for _, v := range want {
		mustAppend(t, log, firstPartition(), v)
	}
	p := partition(t, log, firstPartition())
	var at bus.Position
	var got []bus.Record
	for len(got) < len(want) {
		for batch, err := range p.After(within(t), bus.Start{Position: at}) {
			if err != nil {
				t.Fatal(err)
			}
			got, at = append(got, batch.Records...), batch.Last()
			break
		}
	}
	if values(got) != values(records(want...)) {
		t.Errorf("got %q", values(got))
	}
}

func end(t *testing.T, d Driver) {
	log := open(t, d).Log
	p := partition(t, log, firstPartition())
	if at, err := p.End(within(t)); err != nil || !at.IsZero() {
		t.Errorf("of an empty partition: %s, %v", at, err)
	}
	mustAppend(t, log, firstPartition(), "a", "b", "c")
	recs := read(t, p, bus.Start{}, 3)
	if at, err := p.End(within(t)); err != nil || at != recs[2].Position {
		t.Errorf("got %s, %v, want %s", at, err, recs[2].Position)
	}
}

func commitOutside(t *testing.T, d Driver) {
	log := open(t, d).Log
	mustAppend(t, log, firstPartition(), "a")
	p := partition(t, log, firstPartition())
	if err := p.Commit(within(t), bus.Progress{Through: read(t, p, bus.Start{}, 1)[0].Position}); err == nil {
		t.Error("no error")
	}
	if _, ok, err := p.Committed(within(t)); ok || err != nil {
		t.Errorf("Committed: %v, %v", ok, err)
	}
}
