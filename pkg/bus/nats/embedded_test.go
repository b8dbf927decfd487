package nats_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
)

func TestFramesThatTheServerDoesNotTakeAreAnErrorOfOpen(t *testing.T) {
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	conn, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	log, err := nats.Open(t.Context(), nats.Config{Conn: conn, Partitions: 1, FrameBytesMax: 1 << 20, Now: time.Now})
	if err == nil {
		err = log.Close()
		t.Fatalf("the log was opened (and closed: %v), though a frame and its headers are more than max_payload", err)
	}
	if !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("%v, want it to name max_payload", err)
	}
}

func TestAnEmbeddedServerKeepsRecordsAndCommitsOverAShutdown(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if server.Addr() != "" {
			t.Errorf("it listens at %s", server.Addr())
		}
		conn, err := server.Connect()
		if err != nil {
			t.Fatal(err)
		}
		log, err := nats.Open(t.Context(), nats.Config{Conn: conn, Partitions: 1, Synced: true, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		if round > 0 {
			if got := readAll(t, log, bus.Start{}); len(got) != round {
				t.Errorf("round %d: %d records", round, len(got))
			}
		}
		if err := log.Append(t.Context(), ingested0, one("x")); err != nil {
			t.Fatal(err)
		}
		err = log.Subscribe(t.Context(), "g", []string{bus.Ingested}, func(ctx context.Context, s bus.Share) error {
			progress, ok, err := s.Partitions[0].Committed(ctx)
			if err != nil || ok != (round > 0) || int(progress.Through.Seq) != round {
				t.Errorf("round %d: committed is %v, %v, %v", round, progress, ok, err)
			}
			end, err := s.Partitions[0].End(ctx)
			return errors.Join(err, s.Partitions[0].Commit(ctx, bus.Progress{Through: end}))
		})
		if err := errors.Join(err, log.Close()); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		server.Shutdown()
	}
}

func TestAClientMayDoWhatAuthorizeSaysAndNoMore(t *testing.T) {
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{
		Dir: t.TempDir(), Addr: "127.0.0.1:0",
		Authorize: func(_, _, token string) (nats.Access, bool) {
			return nats.Access{Subscribe: []string{"live.>", "_INBOX.>"}}, token == "right"
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	for _, options := range [][]natsgo.Option{nil, {natsgo.Token("wrong")}, {natsgo.UserInfo("millrace", "guess")}} {
		if conn, err := natsgo.Connect(server.Addr(), options...); !errors.Is(err, natsgo.ErrAuthorization) {
			t.Errorf("connected as %v, %v", conn, err)
		}
	}
	ours, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	denied := make(chan error, 10)
	theirs, err := natsgo.Connect(server.Addr(), natsgo.Token("right"), natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	live, err := theirs.SubscribeSync("live.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(theirs.Flush(), ours.Publish("live.state", []byte("x")), ours.Flush()); err != nil {
		t.Fatal(err)
	}
	if _, err := live.NextMsg(patience); err != nil {
		t.Error(err)
	}
	if err := theirs.Publish("mr.ingested.0", nil); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "the refusal to publish", denied); !errors.Is(err, natsgo.ErrPermissionViolation) {
		t.Error(err)
	}
	if _, err := theirs.SubscribeSync("mr.>"); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "the refusal to subscribe", denied); !errors.Is(err, natsgo.ErrPermissionViolation) {
		t.Error(err)
	}
}

func TestAnEmbeddedServerThatCannotStartSaysWhy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, c := range []struct {
		name string
		cfg  nats.EmbeddedConfig
		want string
	}{
		{"no directory", nats.EmbeddedConfig{}, "dir: empty"},
		{"bad address", nats.EmbeddedConfig{Dir: t.TempDir(), Addr: "localhost"}, "addr: "},
		{"bad port", nats.EmbeddedConfig{Dir: t.TempDir(), Addr: "localhost:nats"}, `addr: port "nats"`},
		{"an address that is taken", nats.EmbeddedConfig{Dir: t.TempDir(), Addr: taken.Addr().String()}, "address already in use"},
		{"a directory that cannot be", nats.EmbeddedConfig{Dir: "/dev/null/x"}, "not a directory"},
	} {
		server, err := nats.Embedded(t.Context(), c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
		if err == nil {
			server.Shutdown()
		}
	}
}

func TestASecondServerOnTheSameDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("the second: %v", err)
	}
	server.Shutdown()
	server, err = nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	server.Shutdown()
}

func TestWithTLSTheNetworkNeedsItAndThisProcessDoesNot(t *testing.T) {
	https := httptest.NewTLSServer(nil) // for its certificate
	defer https.Close()
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{
		Dir: t.TempDir(), Addr: "127.0.0.1:0", TLS: &tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS13},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	ours, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	theirs, err := natsgo.Connect(server.Addr(), natsgo.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.TLSConnectionState(); err != nil {
		t.Error(err)
	}
	theirs.Close()
	if conn, err := natsgo.Connect(strings.Replace(server.Addr(), "tls://", "nats://", 1)); err == nil {
		conn.Close()
		t.Error("connected without the certificate's root")
	}
}

func BenchmarkOpen(b *testing.B) {
	server, err := nats.Embedded(b.Context(), nats.EmbeddedConfig{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Shutdown()
	for n := 0; b.Loop(); n++ {
		for _, what := range []string{"create", "reopen"} {
			began := time.Now()
			conn, err := server.Connect()
			if err != nil {
				b.Fatal(err)
			}
			log, err := nats.Open(b.Context(), nats.Config{Conn: conn, Synced: true, Prefix: "N" + strconv.Itoa(n), Now: time.Now})
			if err := errors.Join(err, log.Close()); err != nil {
				b.Fatal(err)
			}
			conn.Close()
			b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/"+what)
		}
	}
}
