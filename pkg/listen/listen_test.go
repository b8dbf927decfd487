package listen_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/listen"
)

// selfSigned writes a certificate for 127.0.0.1 and its key into dir.
func selfSigned(t *testing.T, dir, name string) listen.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := listen.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for file, block := range map[string]*pem.Block{
		files.Cert: {Type: "CERTIFICATE", Bytes: cert}, files.Key: {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestARenewedCertificateIsServedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	files := selfSigned(t, dir, "old")
	now := time.Now()
	ln, err := listen.Open(t.Context(), "127.0.0.1:0", files, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- listen.Server{Handler: http.NotFoundHandler(), Drain: time.Second, Log: slog.New(slog.DiscardHandler)}.Serve(ctx, ln)
	}()
	subject := func() string {
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := subject(); got != "old" {
		t.Errorf("served %q, want old", got)
	}
	selfSigned(t, dir, "new")
	if err := os.Chtimes(files.Cert, now, now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Minute)
	if got := subject(); got != "new" {
		t.Errorf("served %q, want new", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestARequestUnderWayIsFinished(t *testing.T) {
	ln, err := listen.Open(t.Context(), "127.0.0.1:0", listen.TLS{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stop() // the drain begins while this request is under way
		_, _ = io.WriteString(w, "done")
	})
	done := make(chan error, 1)
	go func() {
		done <- listen.Server{Handler: handler, Drain: time.Minute, Log: slog.New(slog.DiscardHandler)}.Serve(ctx, ln)
	}()
	resp, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "done" {
		t.Errorf("%q, %v, want done", b, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		tls listen.TLS
		ok  bool
	}{
		{listen.TLS{}, true},
		{listen.TLS{Cert: "a", Key: "b"}, true},
		{listen.TLS{Cert: "a"}, false},
		{listen.TLS{Key: "b"}, false},
		{listen.TLS{ClientCA: "c"}, false},
	} {
		if err := c.tls.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.tls, err)
		}
	}
}
