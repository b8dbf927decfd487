package nats_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/bustest"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/enginetest"
)

// engines are the servers that the tests run on where they are there.
func engines() []struct {
	name     string
	replicas int
} {
	return []struct {
		name     string
		replicas int
	}{{"nats", 1}, {"nats-cluster", 3}}
}

// options are what an engine asks of its clients at its main address.
func options(e *enginetest.Engine) []natsgo.Option {
	var o []natsgo.Option
	if token := e.Get("token"); token != "" {
		o = append(o, natsgo.Token(token))
	}
	return o
}

// admin is a connection past the driver.
func admin(t *testing.T, e *enginetest.Engine) jetstream.JetStream {
	t.Helper()
	conn, err := natsgo.Connect(e.URL, append(options(e), natsgo.MaxReconnects(-1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// prefix returns a name for the test's streams, which it removes at the end.
func prefix(t *testing.T, e *enginetest.Engine) string {
	t.Helper()
	name := fmt.Sprintf("T%08X", rand.Uint32())
	js := admin(t, e)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience) // the test's own has ended
		defer cancel()
		names := js.StreamNames(ctx)
		for stream := range names.Name() {
			if strings.HasPrefix(strings.TrimPrefix(stream, "KV_"), name+"_") {
				if err := js.DeleteStream(ctx, stream); err != nil {
					t.Logf("%s is left behind: %v", stream, err)
				}
			}
		}
	})
	return name
}

// on returns the suite's driver on an engine. Where crash is not nil it kills what has the streams of that prefix.
func on(e *enginetest.Engine, replicas int, lease time.Duration, crash func(t *testing.T, prefix string)) bustest.Driver {
	return bustest.Driver{Open: func(t *testing.T, o bustest.Options) bustest.Instance {
		t.Helper()
		cfg := nats.Config{
			URL: e.URL, Options: options(e), Prefix: prefix(t, e), Partitions: o.Partitions, Replicas: replicas,
			RecordBytesMax: o.RecordBytesMax, FrameBytesMax: 2 * o.RecordBytesMax, Lease: lease, Trim: true,
			Retention: nats.Retention{BytesMax: 64 << 20}, // the server sets aside what a stream may take
		}
		if o.BytesMax > 0 {
			cfg.Retention.BytesMax = o.BytesMax * int64(o.Partitions)
		}
		again := func(t *testing.T) bus.Log {
			t.Helper()
			return openLog(t, cfg)
		}
		i := bustest.Instance{Log: openLog(t, cfg), Again: again, Mortal: func(t *testing.T) (bus.Log, func()) {
			t.Helper()
			between := startProxy(t, strings.Split(e.URL, ",")[0])
			c := cfg
			c.URL = between.url()
			c.Options = append(options(e), natsgo.IgnoreDiscoveredServers())
			return openLog(t, c), between.freeze
		}}
		if crash != nil {
			i.Crash = func(t *testing.T) bus.Log {
				t.Helper()
				crash(t, cfg.Prefix)
				return again(t)
			}
		}
		return i
	}}
}

func TestContractOnAServer(t *testing.T) {
	for _, engine := range engines() {
		t.Run(engine.name, func(t *testing.T) {
			e := enginetest.Need(t, engine.name)
			bustest.Run(t, on(e, engine.replicas, 3*time.Second, nil))
		})
	}
}

// leader returns the number of the node that leads a stream; nodes are numbered in the order of the URL.
func leader(t *testing.T, js jetstream.JetStream, stream string) string {
	t.Helper()
	name := ""
	eventually(t, "the leader of "+stream, func() bool {
		s, err := js.Stream(t.Context(), stream)
		if err != nil {
			return false
		}
		if c := s.CachedInfo().Cluster; c != nil {
			name = c.Leader
		}
		return name != ""
	})
	return name
}

// nodeOf returns the number of a node by its name, of which the last digit is the number.
func nodeOf(t *testing.T, name string) int {
	t.Helper()
	n := int(name[len(name)-1] - '0')
	if n < 1 || n > 3 {
		t.Fatalf("node %q: its name does not end in its number", name)
	}
	return n
}

func TestKillContract(t *testing.T) {
	t.Run("nats", func(t *testing.T) {
		e := enginetest.Need(t, "nats")
		bustest.Run(t, on(e, 1, 3*time.Second, func(t *testing.T, _ string) {
			t.Helper()
			e.Kill(t, 1)
			e.Start(t, 1)
		}))
	})
	t.Run("nats-cluster", func(t *testing.T) {
		e := enginetest.Need(t, "nats-cluster")
		bustest.Run(t, on(e, 3, 15*time.Second, func(t *testing.T, prefix string) {
			t.Helper()
			node := nodeOf(t, leader(t, admin(t, e), prefix+"_ingested_0"))
			e.Kill(t, node)
			e.Start(t, node)
		}))
	})
}
