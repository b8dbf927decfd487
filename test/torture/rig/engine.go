package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/test/torture/proxy"
)

// engine is a running server of others, and a hand on its processes.
type engine struct {
	name     string
	settings map[string]string
	control  []string
}

// engines returns those that a set needs, from the file that MILLRACE_ENGINES names.
func engines(names ...string) (map[string]engine, error) {
	path := os.Getenv(enginetest.Variable)
	if path == "" {
		return nil, fmt.Errorf("%s is not set: start the engines with `make engines`, or use the set embedded", enginetest.Variable)
	}
	f, err := enginetest.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := map[string]engine{}
	for _, name := range names {
		settings, ok := f.Engines[name]
		if !ok {
			return nil, fmt.Errorf("%s: no engine %q: %s", path, name, f.Missing[name])
		}
		all[name] = engine{name, settings, f.Control}
	}
	return all, nil
}

func (e engine) url() string { return e.settings["url"] }

func (e engine) nodes() int {
	n, err := strconv.Atoi(e.settings["nodes"])
	if err != nil {
		return 1
	}
	return n
}

func (e engine) tell(ctx context.Context, verb string, node int) error {
	args := append(slices.Clone(e.control[1:]), verb, e.name, strconv.Itoa(node))
	if out, err := exec.CommandContext(ctx, e.control[0], args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s %d: %w: %s", verb, e.name, node, err, out)
	}
	return nil
}

// faults are those of a node, any of them.
func (e engine) faults() []Fault {
	broken := func(down, up string, most time.Duration) func(context.Context, *rand.Rand) error {
		return func(ctx context.Context, dice *rand.Rand) error {
			node := 1 + dice.IntN(e.nodes())
			err := e.tell(ctx, down, node)
			nap(ctx, between(dice, 200*time.Millisecond, most))
			return errors.Join(err, e.tell(context.WithoutCancel(ctx), up, node))
		}
	}
	return []Fault{
		{e.name + "-kill", broken("kill", "start", 5*time.Second)},
		{e.name + "-pause", broken("pause", "resume", 8*time.Second)},
	}
}

// through puts a proxy between whoever uses address, a URL with one host, and that host. It returns the URL by way of the proxy.
func through(ctx context.Context, address string) (string, *proxy.Proxy, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", nil, err
	}
	host := u.Host
	p, err := proxy.Listen(ctx, func() string { return host })
	if err != nil {
		return "", nil, err
	}
	u.Host = p.Addr()
	return u.String(), p, nil
}

// withPath puts a path into a URL: the database of a ClickHouse, the prefix of a bucket.
func withPath(address, path string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	u.Path = "/" + path
	return u.String(), nil
}
