package ledger_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/test/torture/ledger"
)

func plan() ledger.Plan {
	return ledger.Plan{Name: "t7", Devices: 40, Each: 3000, Begin: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC), Step: 100 * time.Millisecond, Groups: 20}
}

func TestAMessageIsTheSameBytesWheneverItIsSent(t *testing.T) {
	p := plan()
	kinds := map[ledger.Kind]int{}
	times := map[time.Time]int{}
	for n := range p.Each {
		body := p.Append(nil, 12, n)
		if again := p.Append(nil, 12, n); !bytes.Equal(body, again) {
			t.Fatalf("message %d: %s, then %s", n, body, again)
		}
		kind := p.Kind(n)
		kinds[kind]++
		if json.Valid(body) == (kind == ledger.Broken) {
			t.Errorf("message %d is %v: %s", n, kind, body)
		}
		if kind == ledger.Broken {
			if d, m, ok := p.Letter(string(body)); !ok || d != 12 || m != n {
				t.Errorf("the letter %s is read as %d, %d, %t", body, d, m, ok)
			}
		}
		if before, taken := times[p.Time(n)]; taken {
			t.Errorf("messages %d and %d have the same time", before, n)
		}
		times[p.Time(n)] = n
		if !p.Displaced(n) && p.Number(p.Time(n)) != n {
			t.Errorf("message %d: its time is that of %d", n, p.Number(p.Time(n)))
		}
	}
	for _, kind := range []ledger.Kind{ledger.Channel, ledger.Log, ledger.Broken} {
		if kinds[kind] == 0 {
			t.Errorf("there is none that is %v", kind)
		}
	}
}

func TestALedgerKnowsWhatWasAcknowledgedAndWritesItDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l, err := ledger.Open(path, plan())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		l.Send(3, n)
	}
	l.Send(3, 4)
	l.Answer(3, 2, 5)
	l.Answer(3, 2, 5) // an answer that comes twice counts once
	l.GiveUp(3, 8)
	for n, want := range map[int]ledger.State{
		0: {Sent: 1}, 2: {Sent: 1, Answered: true}, 4: {Sent: 2, Answered: true}, 6: {Sent: 1, Answered: true}, 7: {Sent: 1}, 10: {},
	} {
		if got := l.State(3, n); got != want {
			t.Errorf("message %d: %+v, want %+v", n, got, want)
		}
	}
	for n, want := range map[int]bool{0: true, 3: false, 8: false, 10: true} {
		if got := l.Due(3, n); got != want {
			t.Errorf("message %d is due: %t", n, got)
		}
	}
	if l.Acknowledged() != 5 {
		t.Errorf("%d are acknowledged", l.Acknowledged())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(b)
	for _, want := range []uint64{3, 2, 5} {
		if got, err := binary.ReadUvarint(r); err != nil || got != want {
			t.Errorf("the file says %d, %v; want %d", got, err, want)
		}
	}
	if r.Len() != 0 {
		t.Errorf("%d more bytes in the file", r.Len())
	}
}
