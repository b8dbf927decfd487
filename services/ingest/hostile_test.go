package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

// attack is one kind of hostile input: what each of some connections sends, and the metric that counts it.
type attack struct {
	name   string
	port   string
	conns  int
	send   []byte        // at once
	drip   []byte        // then a byte every 20 ms, until the other side closes
	want   string        // what the answer must hold, or one of these; "" for none
	counts string        // the series that rises
	within time.Duration // in which the connection is closed; 0 is 5 s, and a busy machine may take longer
	hold   bool          // the connection is good: the attacker keeps it until it has opened all
}

// patience is what a busy machine may take beyond a deadline of the edge.
const patience = 20 * time.Second

func TestHostileInputIsBoundedAndCountedAndOthersAreServed(t *testing.T) {
	if raceTimes > 1 {
		t.Skip("what is measured here is not what it is under the race detector")
	}
	p := startProcess(t)
	before := p.series()
	honest := p.honest(t)
	attacks := append(mqttAttacks(t), httpAttacks(t)...)
	p.attacks(t, attacks)
	p.attacks(t, floods(t))
	p.attacks(t, crowds(t)) // by themselves: where others' handshakes fill the room, theirs are turned away for that
	honest()
	after := p.series()
	for _, a := range slices.Concat(attacks, floods(t), crowds(t)) {
		if a.counts != "" && after[a.counts]-before[a.counts] < 1 {
			t.Errorf("%s: nothing counts it, want %s", a.name, a.counts)
		}
	}
	if got := p.memory(); got > hostileMemory {
		t.Errorf("the process needed %d MiB, want at most %d", got>>20, hostileMemory>>20)
	} else {
		t.Logf("the process needed %d MiB at most; its limits allow %d", got>>20, hostileMemory>>20)
	}
	eventually(t, "no connection is open", func() bool { return p.series()["millrace_mqtt_connections"] == 0 })
}

// attacks runs all at the same time, each from an address of its own.
func (p *process) attacks(t *testing.T, all []attack) {
	t.Helper()
	var group sync.WaitGroup
	for i, a := range all {
		group.Go(func() { p.attack(t, a, 10+i) })
	}
	group.Wait()
}

// attack opens the connections of a and expects each to be closed in time.
func (p *process) attack(t *testing.T, a attack, from int) {
	t.Helper()
	if a.within == 0 {
		a.within = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), a.within+2*patience)
	defer cancel()
	if a.hold {
		p.hold(ctx, a, from)
		return
	}
	var group sync.WaitGroup
	errs := make(chan error, a.conns)
	for range a.conns {
		group.Go(func() {
			conn, err := p.dial(ctx, a.port, from)
			if err != nil {
				return // turned away
			}
			errs <- a.run(conn)
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Errorf("%s: %v", a.name, err)
			return // the others say the same
		}
	}
}

// hold opens the connections of a one after the other, each when the one before has its answer, or was turned away.
func (p *process) hold(ctx context.Context, a attack, from int) {
	for range a.conns {
		conn, err := p.dial(ctx, a.port, from)
		if err != nil {
			continue // turned away
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(a.send)
		_, _ = conn.Read(make([]byte, 1))
	}
}

func (a *attack) run(conn net.Conn) error {
	var group sync.WaitGroup
	defer group.Wait()
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(a.within + patience))
	began, closed := time.Now(), make(chan struct{})
	group.Go(func() {
		_, _ = conn.Write(a.send) // the other side may have closed
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; i < len(a.drip); i++ {
			select {
			case <-tick.C:
			case <-closed:
				return
			}
			if _, err := conn.Write(a.drip[i : i+1]); err != nil {
				return
			}
		}
	})
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	close(closed)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Errorf("the connection is still open after %v, want it closed within %v", time.Since(began), a.within)
	}
	if !slices.ContainsFunc(strings.Split(a.want, "|"), func(want string) bool { return bytes.Contains(answer, []byte(want)) }) {
		return fmt.Errorf("answered %.200q, want %q in it", answer, a.want)
	}
	return nil
}

// honest sends messages over MQTT and HTTP, one after the other, until it is told to stop; each must be acknowledged soon.
func (p *process) honest(t *testing.T) (stop func()) {
	t.Helper()
	const soon = 30 * time.Second // generous: machines that test are busy
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { p.honestMQTT(ctx, t, soon) })
	group.Go(func() { p.honestHTTP(ctx, t, soon) })
	return func() {
		cancel()
		group.Wait()
	}
}

func (p *process) honestMQTT(ctx context.Context, t *testing.T, soon time.Duration) {
	t.Helper()
	sent, worst := 0, time.Duration(0)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; ctx.Err() == nil; <-tick.C {
		began := time.Now()
		once, cancel := context.WithTimeout(ctx, soon)
		c, err := mqtt.Dial(once, mqtt.ClientOptions{Addr: p.addrs["mqtt"], ClientID: "honest", CleanStart: true})
		if err == nil {
			err = c.Publish(once, "devices/honest/channels/n", []byte("1"), 1)
			_ = c.Close()
			<-c.Done()
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			t.Errorf("an honest MQTT client: %v after %v", err, time.Since(began))
			return
		}
		sent, worst = sent+1, max(worst, time.Since(began))
	}
	t.Logf("honest over MQTT: %d connections with a message, the slowest took %v", sent, worst)
}

func (p *process) honestHTTP(ctx context.Context, t *testing.T, soon time.Duration) {
	t.Helper()
	c := client(t)
	sent, worst := 0, time.Duration(0)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; ctx.Err() == nil; <-tick.C {
		began := time.Now()
		once, cancel := context.WithTimeout(ctx, soon)
		status, err := 0, error(nil)
		req, err := http.NewRequestWithContext(once, http.MethodPost, "http://"+p.addrs["http"]+"/v1/devices/honest2/messages", strings.NewReader(`{"n":1}`))
		if err == nil {
			var res *http.Response
			if res, err = c.Do(req); err == nil {
				status = res.StatusCode
				_ = res.Body.Close()
			}
		}
		cancel()
		if (err != nil || status != http.StatusAccepted) && ctx.Err() == nil {
			t.Errorf("an honest HTTP client: %d %v after %v", status, err, time.Since(began))
			return
		}
		sent, worst = sent+1, max(worst, time.Since(began))
	}
	t.Logf("honest over HTTP: %d messages, the slowest took %v", sent, worst)
}
