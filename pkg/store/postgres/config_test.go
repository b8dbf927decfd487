package postgres

import (
	"crypto/tls"
	"encoding/json"
	"testing"
	"unicode/utf8"
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

func TestDetailStaysAsItWasWritten(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1, "a":2.50,"c":"x \u003e \u00fc \n"}`:          `{"b":1, "a":2.50,"c":"x \u003e \u00fc \n"}`,
		`{"a":"\u0000","b":"\\u0000"}`:                        `{"a":"\u2400","b":"\\u0000"}`,
		`{"a":"\ud83d\ude00 \ud83d","\ude00":"\ud83d\u0041"}`: `{"a":"\ud83d\ude00 \ufffd","\ufffd":"\ufffd\u0041"}`,
		"{\"a\":\"\xff\"}":                                    "{\"a\":\"\uFFFD\"}",
	} {
		if got, err := cleanJSON([]byte(in)); err != nil || *got != want {
			t.Errorf("%s becomes %v, want %s (%v)", in, got, want, err)
		}
	}
}

func FuzzDetail(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":"\u0000\ud800\\"}`, `{"a":[1e999,{"\udc00":null}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := cleanJSON(in)
		if err != nil || got == nil {
			return
		}
		if !json.Valid([]byte(*got)) || !utf8.ValidString(*got) {
			t.Errorf("%q becomes %q", in, *got)
		}
		again, err := cleanJSON([]byte(*got))
		if err != nil || *again != *got {
			t.Errorf("%q is cleaned once more: %v (%v)", *got, again, err)
		}
	})
}
