package engines

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// An engine is one kind of server and how it is run. Its functions keep nothing: all they know is in the site, so that a
// node can be started by another process than the one that configured it.
type engine struct {
	name  string
	nodes int
	ports []string // the names of each node's ports
	needs []tool   // what must be on the machine
	// machine is the system and processor that it needs, as in "linux/amd64"; "" when any will do.
	machine string
	// programs gives the recipe by which the engine's own programs are brought into the cache; nil when the tools are all.
	programs func() recipe
	// configure writes what the nodes need before they start. It is called at each start, and keeps data that is there.
	configure func(ctx context.Context, s *site) error
	// command says how node n is started.
	command func(s *site, n int) (command, error)
	// healthy asks node n once whether it serves.
	healthy func(ctx context.Context, s *site, n int) error
	// settle is called when all nodes are healthy: what can be made only by asking the engine. It may be nil.
	settle func(ctx context.Context, s *site) error
	// settings are what tests get to know; "url" is among them.
	settings func(s *site) (map[string]string, error)
	// stop is the signal that asks a node to end; zero means SIGTERM.
	stop syscall.Signal
}

// A tool is a program that the machine must have.
type tool struct {
	command string
	debian  string   // the package that has it, "" for one that cannot be had so
	major   int      // the least version that will do, of Java; 0 for any
	dirs    []string // patterns of directories to look into before PATH
}

// java is what Kafka and Elasticsearch run on.
func java() tool { return tool{command: "java", debian: "default-jdk-headless", major: 17} }

// all gives the engines in the order in which they are listed.
func all() []engine {
	return []engine{
		kafka(), natsOne(), natsCluster(), natsSecure(), clickhouse(), elasticsearch(), elasticsearchSecure(), postgres(), s3(),
	}
}

// Names lists the engines there are.
func Names() []string {
	var names []string
	for _, e := range all() {
		names = append(names, e.name)
	}
	return names
}

func find(name string) (engine, error) {
	engines := all()
	i := slices.IndexFunc(engines, func(e engine) bool { return e.name == name })
	if i < 0 {
		return engine{}, fmt.Errorf("no engine %q, but %s", name, strings.Join(Names(), ", "))
	}
	return engines[i], nil
}
