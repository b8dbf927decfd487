package engines

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validFor is longer than any set of engines lives.
const validFor = 3650 * 24 * time.Hour

// An authority is a set's own certificate authority, and the one certificate for localhost that it has given.
type authority struct {
	dir string
}

func (a *authority) ca() string     { return filepath.Join(a.dir, "ca.pem") }
func (a *authority) cert() string   { return filepath.Join(a.dir, "server.crt") }
func (a *authority) key() string    { return filepath.Join(a.dir, "server.key") }
func (a *authority) bundle() string { return filepath.Join(a.dir, "server.pem") } // key, certificate and authority

// ensure makes the files, unless they are there.
func (a *authority) ensure(now time.Time) error {
	if _, err := os.Stat(a.bundle()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "engines for tests"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validFor),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca, err := certificate(root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return err
	}
	cert, err := certificate(server, root, &serverKey.PublicKey, rootKey)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return err
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return errors.Join(
		writeFile(a.ca(), ca), writeFile(a.cert(), cert), writeFile(a.key(), key),
		writeFile(a.bundle(), append(append(key, cert...), ca...)), // the last, since it says that all are there
	)
}

func certificate(of, by *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, of, by, public, signer)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}
