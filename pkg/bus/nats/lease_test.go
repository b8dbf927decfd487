package nats_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
)

// member subscribes and says when its own starts and ends.
type member struct {
	started, ended chan struct{}
	done           chan error
}

func join(ctx context.Context, log bus.Log) member {
	m := member{make(chan struct{}, 10), make(chan struct{}, 10), make(chan error, 1)}
	go func() {
		m.done <- log.Subscribe(ctx, "g", []string{bus.Ingested}, func(ctx context.Context, _ bus.Share) error {
			m.started <- struct{}{}
			<-ctx.Done()
			m.ended <- struct{}{}
			return nil
		})
	}()
	return m
}

func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

func TestAMemberTakesOverWithinTheLeaseAfterTheOwnerLostItsConnectionAndTheOwnerIsTold(t *testing.T) {
	server := startProcess(t)
	conn, err := natsgo.Connect(server.url)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one := join(ctx, openLog(t, nats.Config{Conn: conn, Partitions: 1, Lease: 2 * time.Second}))
	within(t, "the first owner", one.started)
	two := join(ctx, openLog(t, nats.Config{URL: server.url, Partitions: 1, Lease: 2 * time.Second}))
	conn.Close()
	within(t, "the second owner", two.started)
	within(t, "the end of the first owner", one.ended)
	eventually(t, "the end of the first subscription", func() bool { return len(one.done) == 1 })
	cancel()
	if err := within(t, "the end of the second subscription", two.done); err != nil {
		t.Error(err)
	}
	if err := within(t, "the end of the first subscription", one.done); !errors.Is(err, natsgo.ErrConnectionClosed) {
		t.Errorf("Subscribe on a connection that was closed for good returned %v", err)
	}
}

func TestAMemberThatCannotJoinYetJoinsWhenTheServerIsBack(t *testing.T) {
	server := startProcess(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tries := make(chan struct{}, 1000)
	log := openLog(t, nats.Config{URL: server.url, Partitions: 1, Log: slog.New(told{slog.DiscardHandler, "cannot join the group yet, trying again", tries})})
	server.kill()
	m := join(ctx, log)
	within(t, "an attempt that fails", tries)
	within(t, "another attempt", tries)
	server.start(t)
	within(t, "the owner", m.started)
	cancel()
	if err := within(t, "the end of the subscription", m.done); err != nil {
		t.Error(err)
	}
}

// told is a log handler that tells of each record with a message.
type told struct {
	slog.Handler
	message string
	seen    chan<- struct{}
}

func (told) Enabled(context.Context, slog.Level) bool { return true }

func (h told) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.seen <- struct{}{}
	}
	return nil
}

func TestAnOwnerKeepsItsSharesWhenTheServerIsKilledAndStartsAgainSoon(t *testing.T) {
	server := startProcess(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := openLog(t, nats.Config{URL: server.url, Partitions: 1, Lease: 3 * time.Second})
	m := join(ctx, log)
	within(t, "the owner", m.started)
	server.kill()
	server.start(t)
	select {
	case <-m.ended:
		t.Error("the share was lost")
	case <-time.After(4 * time.Second): // more than the lease
	}
	waiting := join(ctx, openLog(t, nats.Config{URL: server.url, Partitions: 1, Lease: 3 * time.Second}))
	cancel()
	for _, done := range []chan error{m.done, waiting.done} {
		if err := within(t, "the end of a subscription", done); err != nil {
			t.Error(err)
		}
	}
}

func TestAnOwnerKeepsItsSharesWhenTheAnswerToARenewalWasLost(t *testing.T) {
	server := startProcess(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := join(ctx, openLog(t, nats.Config{URL: server.url, Partitions: 1, Lease: 2 * time.Second}))
	within(t, "the owner", m.started)
	conn, err := natsgo.Connect(server.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := js.KeyValue(ctx, "MR_groups")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := groups.ListKeysFiltered(ctx, "lease.*")
	if err != nil {
		t.Fatal(err)
	}
	lease := <-keys.Keys()
	if _, err := groups.Put(ctx, lease, []byte("1")); err != nil { // as a renewal that the owner takes for failed
		t.Fatal(err)
	}
	select {
	case <-m.ended:
		t.Error("the share was lost")
	case <-time.After(3 * time.Second): // more than the lease
	}
	if now, err := groups.Get(ctx, lease); err != nil || string(now.Value()) != "1" || time.Since(now.Created()) > 2*time.Second {
		t.Errorf("the lease is %v, %v, want it to be renewed", now, err)
	}
	cancel()
	if err := within(t, "the end of the subscription", m.done); err != nil {
		t.Error(err)
	}
}
