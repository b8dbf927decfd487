package engines_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/millrace/millrace/pkg/enginetest"
)

func roots(t *testing.T, file string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s has no certificate", file)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func TestKafkaTakesItsUserByPlainAndScramOverTLSAndNobodyElse(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	if e.Get("secure_url") == "" {
		t.Skip("this Kafka has no listener with TLS")
	}
	if e.Nodes() != 3 {
		t.Errorf("%d nodes, want 3", e.Nodes())
	}
	scrammed := func(password string) sasl.Mechanism {
		m, err := scram.Mechanism(scram.SHA512, e.Get("user"), password)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		name      string
		mechanism sasl.Mechanism
		allowed   bool
	}{
		{"PLAIN", plain.Mechanism{Username: e.Get("user"), Password: e.Get("password")}, true},
		{"SCRAM", scrammed(e.Get("password")), true},
		{"PLAIN, wrong password", plain.Mechanism{Username: e.Get("user"), Password: "guess"}, false},
		{"SCRAM, wrong password", scrammed("guess"), false},
		{"nobody", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for addr := range strings.SplitSeq(strings.TrimPrefix(e.Get("secure_url"), "kafka://"), ",") {
				transport := &kafkago.Transport{TLS: roots(t, e.Get("ca")), SASL: c.mechanism}
				client := &kafkago.Client{Addr: kafkago.TCP(addr), Transport: transport}
				_, err := client.ApiVersions(t.Context(), &kafkago.ApiVersionsRequest{})
				if err == nil {
					_, err = client.Metadata(t.Context(), &kafkago.MetadataRequest{})
				}
				transport.CloseIdleConnections()
				if (err == nil) != c.allowed {
					t.Errorf("%s: %v, allowed is %v", addr, err, c.allowed)
				}
			}
		})
	}
}

func TestElasticsearchTakesItsUserAndItsKeyAndNobodyElse(t *testing.T) {
	e := enginetest.Need(t, "elasticsearch-secure")
	transport := &http.Transport{TLSClientConfig: roots(t, e.Get("ca"))}
	defer transport.CloseIdleConnections()
	for _, c := range []struct {
		name   string
		as     func(r *http.Request)
		status int
	}{
		{"user", func(r *http.Request) { r.SetBasicAuth(e.Get("user"), e.Get("password")) }, http.StatusOK},
		{"key", func(r *http.Request) { r.Header.Set("Authorization", "ApiKey "+e.Get("api_key")) }, http.StatusOK},
		{"wrong password", func(r *http.Request) { r.SetBasicAuth(e.Get("user"), "guess") }, http.StatusUnauthorized},
		{"nobody", func(*http.Request) {}, http.StatusUnauthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.URL+"/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			c.as(r)
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := res.Body.Close(); err != nil || res.StatusCode != c.status {
				t.Errorf("%s, %v; want %d", res.Status, err, c.status)
			}
		})
	}
}
