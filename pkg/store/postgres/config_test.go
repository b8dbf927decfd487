package postgres

import (
	"crypto/tls"
	"testing"
)

func TestTLSOnceGivenIsDemandedOfEveryHost(t *testing.T) {
	cfg := Config{URL: "postgres://user@one:5432,two:5433/db?sslmode=prefer", Password: "own", TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Conns: 9}
	p, err := cfg.pool()
	if err != nil {
		t.Fatal(err)
	}
	c := p.ConnConfig
	if c.TLSConfig == nil || c.TLSConfig.ServerName != "one" || c.Password != "own" || p.MaxConns != 9 {
		t.Errorf("the first host is asked with %+v", c.TLSConfig)
	}
	if len(c.Fallbacks) != 1 || c.Fallbacks[0].Host != "two" || c.Fallbacks[0].TLSConfig == nil || c.Fallbacks[0].TLSConfig.ServerName != "two" {
		t.Errorf("the others are %+v, want the second host, with TLS", c.Fallbacks)
	}
	if cfg.TLS.ServerName != "" {
		t.Error("the caller's TLS was changed")
	}
}

func TestWithoutTLSTheURLDecides(t *testing.T) {
	for url, want := range map[string]bool{"postgres://h/db?sslmode=disable": false, "postgres://h/db?sslmode=require": true} {
		p, err := Config{URL: url}.pool()
		if err != nil || (p.ConnConfig.TLSConfig != nil) != want || p.MaxConns != DefaultConns {
			t.Errorf("%s: TLS %v, %d connections, %v", url, p.ConnConfig.TLSConfig != nil, p.MaxConns, err)
		}
	}
}
