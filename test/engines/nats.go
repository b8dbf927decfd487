package engines

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

const (
	natsVersion  = "v2.15.2"
	natsNodes    = 3
	natsUser     = "millrace"
	natsPassword = "millrace-secret"
)

// natsOne is one server with JetStream, open to all.
func natsOne() engine {
	e := nats("nats", 1)
	e.settings = func(s *site) (map[string]string, error) {
		return map[string]string{"url": "nats://" + s.addr(1, "client")}, nil
	}
	return e
}

// natsCluster is three servers. On their one port a client that brings nothing is in an account that is open, and one
// that brings user and password, over TLS by preference, is in an account of its own.
func natsCluster() engine {
	e := nats("nats-cluster", natsNodes)
	e.settings = func(s *site) (map[string]string, error) {
		return map[string]string{
			"url": "nats://" + s.addrs("client"), "secure_url": "tls://" + s.addrs("client"),
			"ca": s.tls.ca(), "user": natsUser, "password": natsPassword,
		}, nil
	}
	return e
}

// natsSecure is one server that takes nobody without TLS and credentials that its operator has signed.
func natsSecure() engine {
	e := nats("nats-secure", 1)
	e.settings = func(s *site) (map[string]string, error) {
		return map[string]string{
			"url": "tls://" + s.addr(1, "client"), "ca": s.tls.ca(), "credentials": natsOperatorOf(s).credentials(),
		}, nil
	}
	return e
}

func nats(name string, nodes int) engine {
	return engine{
		name: name, nodes: nodes, ports: []string{"client", "route", "monitor"},
		needs: []tool{{command: "go"}},
		programs: func() recipe {
			return recipe{name: "nats-server", version: natsVersion, make: func(ctx context.Context, s *site, dir string) error {
				return goInstall(ctx, s, dir, "github.com/nats-io/nats-server/v2@"+natsVersion)
			}}
		},
		configure: func(_ context.Context, s *site) error {
			// Only nats-secure asks for them; they cost nothing.
			if err := natsOperatorOf(s).ensure(); err != nil {
				return fmt.Errorf("sign tokens: %w", err)
			}
			for n := 1; n <= nodes; n++ {
				if err := writeFile(natsFile(s, n), []byte(natsConfiguration(s, nodes, n))); err != nil {
					return err
				}
			}
			return nil
		},
		command: func(s *site, n int) (command, error) {
			return command{path: filepath.Join(s.Programs, "nats-server"), args: []string{"-c", natsFile(s, n)}}, nil
		},
		healthy: func(ctx context.Context, s *site, n int) error {
			// Asked so, the server counts its streams and their leaders as well.
			return getOK(ctx, "http://"+s.addr(n, "monitor")+"/healthz", nil)
		},
	}
}

func natsOperatorOf(s *site) natsOperator { return natsOperator{filepath.Join(s.dir, "operator")} }

func natsFile(s *site, n int) string { return filepath.Join(s.node(n), "nats.conf") }

// natsConfiguration has an acknowledged message on disk, as Millrace asks of any server.
func natsConfiguration(s *site, nodes, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: %s-%d\nlisten: %q\nhttp: %q\n", s.engine, n, s.addr(n, "client"), s.addr(n, "monitor"))
	fmt.Fprintf(&b, "jetstream { store_dir: %q, max_mem: 512M, max_file: 64G, sync_interval: always }\n", filepath.Join(s.node(n), "data"))
	if nodes > 1 {
		var routes []string
		for i := 1; i <= nodes; i++ {
			routes = append(routes, fmt.Sprintf("%q", "nats://"+s.addr(i, "route")))
		}
		fmt.Fprintf(&b, "cluster { name: %s, listen: %q, routes: [%s] }\n", s.engine, s.addr(n, "route"), strings.Join(routes, ", "))
	}
	user := fmt.Sprintf("{ user: %s, password: %s }", natsUser, natsPassword)
	switch s.engine {
	case "nats-cluster":
		fmt.Fprintf(&b, "tls { cert_file: %q, key_file: %q }\nallow_non_tls: true\n", s.tls.cert(), s.tls.key())
		fmt.Fprintf(&b, "accounts {\n  OPEN: { jetstream: enabled, users: [{ user: open, password: open }] }\n")
		fmt.Fprintf(&b, "  SECURE: { jetstream: enabled, users: [%s] }\n}\nno_auth_user: open\n", user)
	case "nats-secure":
		fmt.Fprintf(&b, "tls { cert_file: %q, key_file: %q }\ninclude %q\n", s.tls.cert(), s.tls.key(), "../operator/"+filepath.Base(natsOperatorOf(s).configuration()))
	}
	return b.String()
}
