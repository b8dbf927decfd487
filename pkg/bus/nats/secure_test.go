package nats_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/enginetest"
)

// opens opens a log with options and appends to it, or returns why that cannot be.
func opens(t *testing.T, url, prefix string, options ...natsgo.Option) error {
	t.Helper()
	log, err := nats.Open(t.Context(), nats.Config{
		URL: url, Prefix: prefix, Partitions: 1, Options: append(options, natsgo.Timeout(20*time.Second)), Synced: true, Now: time.Now,
		Retention: nats.Retention{BytesMax: 64 << 20},
	})
	if err != nil {
		return err
	}
	return errors.Join(log.Append(t.Context(), ingested0, one("a")), log.Close())
}

// expect compares an error with the text that it must have, "" for none.
func expect(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%v, want %q in it", err, want)
	}
}

func TestAServerIsToldWhoWeAreAndARefusalSaysWhy(t *testing.T) {
	cluster, secure := enginetest.Need(t, "nats-cluster"), enginetest.Need(t, "nats-secure")
	if cluster.Get("secure_url") == "" {
		t.Skip("the cluster has no secure_url")
	}
	known := func(e *enginetest.Engine) natsgo.Option { return natsgo.RootCAs(e.Get("ca")) }
	other := filepath.Join(t.TempDir(), "other.creds")
	mine, err := os.ReadFile(secure.Get("credentials"))
	if err == nil {
		err = os.WriteFile(other, []byte(strings.Replace(string(mine), "ey", "eY", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		url     string
		options []natsgo.Option
		want    string
	}{
		{"user and password", cluster.Get("secure_url"), []natsgo.Option{known(cluster), natsgo.UserInfo(cluster.Get("user"), cluster.Get("password"))}, ""},
		{"a wrong password", cluster.Get("secure_url"), []natsgo.Option{known(cluster), natsgo.UserInfo(cluster.Get("user"), "guess")}, "bus.user"},
		{"a server of an authority that is not ours", cluster.Get("secure_url"), []natsgo.Option{natsgo.UserInfo(cluster.Get("user"), cluster.Get("password"))}, "bus.tls.ca"},
		{"credentials", secure.URL, []natsgo.Option{known(secure), natsgo.UserCredentials(secure.Get("credentials"))}, ""},
		{"no credentials", secure.URL, []natsgo.Option{known(secure)}, "bus.user"},
		{"credentials that are not there", secure.URL, []natsgo.Option{known(secure), natsgo.UserCredentials("/nowhere.creds")}, "/nowhere.creds"},
		{"credentials that somebody has changed", secure.URL, []natsgo.Option{known(secure), natsgo.UserCredentials(other)}, "bus.user"},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, opens(t, c.url, "SEC", c.options...), c.want) })
	}
}

// authority signs the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign completes and signs a certificate, by itself where the authority has none yet.
func (a *authority) sign(t *testing.T, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "a test"}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	by, with := a.cert, a.key
	if by == nil {
		by, with = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), with)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed, key
}

func (a *authority) pair(t *testing.T, use x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func TestAnEmbeddedServerMayAskForACertificateAndAToken(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{
		Dir: t.TempDir(), Addr: "127.0.0.1:0",
		TLS: &tls.Config{
			Certificates: []tls.Certificate{ours.pair(t, x509.ExtKeyUsageServerAuth)}, MinVersion: tls.VersionTLS12,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(),
		},
		Authorize: func(_, _, token string) (nats.Access, bool) {
			all := []string{">"}
			return nats.Access{Publish: all, Subscribe: all}, token == "right"
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	as := func(trusted *authority, certificates ...tls.Certificate) natsgo.Option {
		return natsgo.Secure(&tls.Config{RootCAs: trusted.pool(), Certificates: certificates, MinVersion: tls.VersionTLS12})
	}
	mine := ours.pair(t, x509.ExtKeyUsageClientAuth)
	for _, c := range []struct {
		name    string
		options []natsgo.Option
		want    string
	}{
		{"certificate and token", []natsgo.Option{as(ours, mine), natsgo.Token("right")}, ""},
		{"a wrong token", []natsgo.Option{as(ours, mine), natsgo.Token("wrong")}, "bus.user"},
		{"no certificate", []natsgo.Option{as(ours), natsgo.Token("right")}, "bus.tls.cert"},
		{"a certificate of another authority", []natsgo.Option{as(ours, theirs.pair(t, x509.ExtKeyUsageClientAuth)), natsgo.Token("right")}, "bus.tls.cert"},
		{"a server that we do not trust", []natsgo.Option{as(theirs, mine), natsgo.Token("right")}, "bus.tls.ca"},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, opens(t, server.Addr(), "", c.options...), c.want) })
	}
	t.Run("no TLS", func(t *testing.T) {
		expect(t, opens(t, strings.Replace(server.Addr(), "tls://", "nats://", 1), "", natsgo.Token("right")), "bus.tls")
	})
	t.Run("nobody there", func(t *testing.T) {
		expect(t, opens(t, "nats://127.0.0.1:1", ""), "127.0.0.1:1")
	})
}
