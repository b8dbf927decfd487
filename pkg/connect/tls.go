package connect

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// ClientTLS is what a client needs for TLS towards a server.
type ClientTLS struct {
	CA   string `yaml:"ca" doc:"File of certificates to trust; empty means the system's."`
	Cert string `yaml:"cert" doc:"File of the client's own certificate."`
	Key  string `yaml:"key" doc:"File of the key of cert."`
}

// Validate reports every fault by its key.
func (c ClientTLS) Validate() error {
	if (c.Cert == "") != (c.Key == "") {
		return errors.New("key: cert and key belong together")
	}
	return nil
}

// Config reads the files. It returns nil where c names none, and errors that begin with the key that they are of, such as
// "tls.ca".
func (c ClientTLS) Config() (*tls.Config, error) {
	if c == (ClientTLS{}) {
		return nil, nil //nolint:nilnil // nothing is asked for
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s holds no certificate in PEM", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
