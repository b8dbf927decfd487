package ingest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/millrace/millrace/pkg/access"
)

// listeners are those that the configuration asks for.
type listeners struct {
	mqtt []net.Listener
	http net.Listener // nil for none
}

func (l *listeners) close() error {
	var errs []error
	for _, ln := range l.mqtt {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// Listeners returns what the configuration opens, for access.CheckListener.
func (c Config) Listeners() []access.Listener {
	return []access.Listener{
		{Key: "ingest.mqtt.addr", Addr: c.MQTT.Addr},
		{Key: "ingest.mqtt.tls_addr", Addr: c.MQTT.TLSAddr, TLS: true},
		{Key: "ingest.http.addr", Addr: c.HTTP.Addr, TLS: c.HTTP.TLS.Cert != ""},
	}
}

// listen opens all listeners or none.
func (i *Ingest) listen(ctx context.Context) (open listeners, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, open.close())
		}
	}()
	c := i.cfg
	if c.MQTT.Addr != "" {
		ln, err := i.listenOn(ctx, "mqtt", c.MQTT.Addr, nil)
		if err != nil {
			return open, err
		}
		open.mqtt = append(open.mqtt, ln)
	}
	if c.MQTT.TLSAddr != "" {
		ln, err := i.listenOn(ctx, "mqtts", c.MQTT.TLSAddr, &c.MQTT.TLS)
		if err != nil {
			return open, err
		}
		open.mqtt = append(open.mqtt, ln)
	}
	if c.HTTP.Addr == "" || i.deps.Mounted {
		return open, nil
	}
	var secure *TLS
	if c.HTTP.TLS.Cert != "" {
		secure = &c.HTTP.TLS
	}
	open.http, err = i.listenOn(ctx, "http", c.HTTP.Addr, secure)
	return open, err
}

func (i *Ingest) listenOn(ctx context.Context, name, addr string, secure *TLS) (net.Listener, error) {
	var cfg *tls.Config
	if secure != nil {
		var err error
		if cfg, err = secure.load(); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", name, err)
	}
	i.deps.Log.InfoContext(ctx, "listening", "protocol", name, "addr", ln.Addr().String())
	if i.deps.Listening != nil {
		i.deps.Listening(name, ln.Addr())
	}
	if cfg != nil {
		ln = tls.NewListener(ln, cfg)
	}
	return ln, nil
}

// load reads the certificate, and makes clients show theirs where authorities are named. Go checks a client's chain also when a
// session is resumed, since session tickets carry it; keys and tokens are checked on every connection anyhow.
func (t *TLS) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("load the certificate %s: %w", t.Cert, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if t.ClientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("load the clients' authorities: %w", err)
	}
	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load the clients' authorities: %s holds no certificate", t.ClientCA)
	}
	return cfg, nil
}
