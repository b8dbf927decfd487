package ingest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/listen"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

// certificate makes a self-signed one and returns its files and a pool that trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for name, b := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return cert, key, pool, pair
}

func TestTLS(t *testing.T) {
	cert, key, pool, pair := certificate(t)
	for _, mutual := range []bool{false, true} {
		r := start(t, setup{cfg: func(c *ingest.Config) {
			c.MQTT.TLSAddr, c.MQTT.TLS = "127.0.0.1:0", listen.TLS{Cert: cert, Key: key}
			if mutual {
				c.MQTT.TLS.ClientCA = cert
			}
		}})
		o := mqtt.ClientOptions{Addr: r.addrs["mqtts"], TLS: &tls.Config{RootCAs: pool}}
		if mutual {
			if _, err := mqtt.Dial(t.Context(), o); err == nil {
				t.Error("a client without a certificate is let in")
			}
			o.TLS.Certificates = []tls.Certificate{pair}
		}
		c := r.dial(o)
		for range 100 {
			if err := c.PublishAsync("devices/d/channels/n", []byte("1"), 1, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(r.values()); got != 100 {
			t.Errorf("%d messages, want 100", got)
		}
	}
}
