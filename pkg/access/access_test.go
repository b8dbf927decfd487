package access_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/access"
)

func open(t *testing.T, name string) *access.Keys {
	t.Helper()
	k, err := access.Open(t.Context(), name, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func create(t *testing.T, name string, r access.Request) (string, access.Credential) {
	t.Helper()
	secret, c, err := access.Create(name, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return secret, c
}

func TestASecretOpensAndARevokedOneDoesNot(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.json")
	secret, c := create(t, name, access.Request{Device: "dev1"})
	keys := open(t, name)
	got, err := keys.Authenticate(secret)
	if err != nil || got.ID != c.ID {
		t.Fatalf("authenticate: %v, %v", got, err)
	}
	changed := make(chan struct{}, 1)
	keys.OnChange(func() { changed <- struct{}{} })
	if err := access.Revoke(name, c.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-time.After(time.Minute):
		t.Fatal("the running process did not follow the file")
	}
	for _, s := range []string{secret, secret + "x", "", "mr_1_2", "mr_" + c.ID + "_0"} {
		if _, err := keys.Authenticate(s); !errors.Is(err, access.ErrRefused) {
			t.Errorf("%q: %v, want ErrRefused", s, err)
		}
	}
	if _, err := keys.InForce(c.ID); !errors.Is(err, access.ErrRefused) {
		t.Errorf("in force: %v, want ErrRefused", err)
	}
}

func TestTheFileHoldsNoSecret(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.json")
	secret, c := create(t, name, access.Request{Scopes: []access.Scope{access.ScopeRead}})
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if random := secret[len("mr_"+c.ID+"_"):]; len(random) != 43 || contains(string(b), random) {
		t.Errorf("the file holds the secret, or the secret %q is short:\n%s", secret, b)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

func contains(s, part string) bool {
	for i := range len(s) - len(part) + 1 {
		if s[i:i+len(part)] == part {
			return true
		}
	}
	return false
}

func TestABrokenFileKeepsWhatWasKnown(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.json")
	secret, _ := create(t, name, access.Request{Device: "dev1"})
	keys := open(t, name)
	if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Authenticate(secret); err != nil {
		t.Errorf("a broken file locks everybody out: %v", err)
	}
	if _, err := access.Open(t.Context(), name, slog.New(slog.DiscardHandler), time.Now); err == nil {
		t.Error("a process started on a broken file, want an error")
	}
}

func TestMaySendFor(t *testing.T) {
	for _, c := range []struct {
		name   string
		cred   access.Credential
		device string
		want   bool
	}{
		{"its own device", access.Credential{Device: "a"}, "a", true},
		{"another device", access.Credential{Device: "a"}, "b", false},
		{"a gateway's child", access.Credential{Device: "gw", ActsFor: []string{"house-*"}}, "house-3", true},
		{"not a child", access.Credential{Device: "gw", ActsFor: []string{"house-*"}}, "plant-3", false},
		{"a sending token", access.Credential{Scopes: []access.Scope{access.ScopeSend}}, "b", true},
		{"a sending token for some", access.Credential{Scopes: []access.Scope{access.ScopeSend}, ActsFor: []string{"a*"}}, "b", false},
		{"a reading token", access.Credential{Scopes: []access.Scope{access.ScopeRead}}, "b", false},
		{"an admin", access.Credential{Scopes: []access.Scope{access.ScopeAdmin}}, "b", true},
	} {
		if got := c.cred.MaySendFor(c.device); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

func TestCreateRefusesNonsense(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.json")
	for what, r := range map[string]access.Request{
		"nothing":             {},
		"a device with scope": {Device: "a", Scopes: []access.Scope{access.ScopeRead}},
		"an unknown scope":    {Scopes: []access.Scope{"root"}},
		"a bad glob":          {Device: "a", ActsFor: []string{"["}},
		"a bad device":        {Device: "a/b"},
	} {
		if _, _, err := access.Create(name, r, time.Now()); err == nil {
			t.Errorf("%s is taken, want an error", what)
		}
	}
}

func TestExpiry(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.json")
	past := time.Now().Add(-time.Second)
	secret, _ := create(t, name, access.Request{Device: "a", Expires: &past})
	if _, err := open(t, name).Authenticate(secret); !errors.Is(err, access.ErrRefused) {
		t.Errorf("%v, want ErrRefused", err)
	}
}

func TestCheckListener(t *testing.T) {
	for _, c := range []struct {
		addr                string
		tls, keys, insecure bool
		ok                  bool
	}{
		{"127.0.0.1:1883", false, false, false, true},
		{"[::1]:1883", false, false, false, true},
		{"localhost:1883", false, false, false, true},
		{"", false, false, false, true},
		{":1883", false, false, false, false},
		{"0.0.0.0:1883", true, false, false, false},
		{"0.0.0.0:1883", false, true, false, false},
		{"0.0.0.0:1883", true, true, false, true},
		{"0.0.0.0:1883", false, false, true, true},
	} {
		err := access.CheckListener(access.Listener{Key: "mqtt", Addr: c.addr, TLS: c.tls}, c.keys, c.insecure)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
