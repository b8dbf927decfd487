package listen_test

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/listen"
)

// failed returns how many connections came to nothing, by reason.
func failed(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			counts[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return counts
}

func TestOneAddressLeavesConnectionsToTheOthers(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics, err := listen.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- listen.Server{
			Handler: http.NotFoundHandler(), Drain: time.Second, Log: slog.New(slog.DiscardHandler),
			Connections: 6, AddressConnections: 4, Metrics: metrics,
		}.Serve(ctx, ln)
	}()
	dial := func(from byte) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, from)}}
		c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Skipf("no address of 127.0.0.0/8 but one: %v", err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	answered := func(c net.Conn) bool {
		_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusNotFound
	}
	var floods []net.Conn
	for range 4 {
		c := dial(1)
		if !answered(c) {
			t.Error("a connection within the limit is not served")
		}
		floods = append(floods, c)
	}
	if answered(dial(1)) {
		t.Error("a fifth connection from one address is served")
	}
	for i := range byte(3) {
		if c := dial(2 + i); answered(c) != (i < 2) {
			t.Errorf("connection %d of six: served %v", 5+i, i >= 2)
		}
	}
	_ = floods[0].Close()
	for deadline := time.Now().Add(20 * time.Second); !answered(dial(9)); {
		if time.Now().After(deadline) {
			t.Fatal("a place that was left is not given again")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	got := failed(t, reg)
	if got["address"] != 1 || got["connections"] < 1 || got["no_request"] != 0 {
		t.Errorf("counted %v", got)
	}
}
