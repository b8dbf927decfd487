package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Ports are taken below what the kernel gives to outgoing connections (32768 and up): such a connection would sit on the
// port of a node that is down, and a client that knocks there could even end up talking to itself.
const (
	portMin = 20000
	portMax = 32000
)

// A site is where one engine of a set lives.
type site struct {
	engine string
	dir    string // DIR/ENGINE, absolute
	tls    *authority
	self   string // this program, as the set keeps it
	now    func() time.Time

	// Programs is the cache's directory with the engine's programs.
	Programs string `json:"programs"`
	// Tools are the paths of what the machine has.
	Tools map[string]string `json:"tools"`
	// Ports are by "NODE/NAME".
	Ports map[string]int `json:"ports"`
	// Settled says that the engine has served, so that its settings are known.
	Settled bool `json:"settled"`
	// Data is where the data is, when not below dir.
	Data string `json:"data,omitempty"`
}

func (s *site) node(n int) string { return filepath.Join(s.dir, strconv.Itoa(n)) }

func (s *site) logFile(n int) string { return filepath.Join(s.node(n), "log") }

func (s *site) port(n int, name string) int { return s.Ports[strconv.Itoa(n)+"/"+name] }

// addr is node n's address for the port called name.
func (s *site) addr(n int, name string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port(n, name)))
}

// addrs are the addresses of all nodes, separated by commas.
func (s *site) addrs(name string) string {
	var list []string
	for n := 1; s.port(n, name) != 0; n++ {
		list = append(list, s.addr(n, name))
	}
	return strings.Join(list, ",")
}

func (s *site) load() (known bool, err error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "site.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(text, s); err != nil {
		return false, fmt.Errorf("%s: site.json: %w", s.dir, err)
	}
	return true, nil
}

func (s *site) save() error { return writeJSON(filepath.Join(s.dir, "site.json"), s) }

// choosePorts gives every node the ports it has none for yet.
func (s *site) choosePorts(e engine) error {
	if s.Ports == nil {
		s.Ports = map[string]int{}
	}
	var held []net.Listener // until all are found, so that none is found twice
	defer func() {
		for _, l := range held {
			_ = l.Close() // nothing was accepted
		}
	}()
	for n := range e.nodes {
		for _, name := range e.ports {
			key := strconv.Itoa(n+1) + "/" + name
			if s.Ports[key] != 0 {
				continue
			}
			port, l, err := freePort()
			if err != nil {
				return err
			}
			held = append(held, l)
			s.Ports[key] = port
		}
	}
	return nil
}

func freePort() (int, net.Listener, error) {
	for range 1000 {
		port := portMin + rand.IntN(portMax-portMin)                                                    //nolint:gosec // which one is no secret
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil { //nolint:noctx // binding does not wait
			return port, l, nil
		}
	}
	return 0, nil, fmt.Errorf("no free port from %d to %d", portMin, portMax)
}

// writeFile replaces a file in one step, so that a reader beside it sees the old or the new one.
func writeFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // PostgreSQL runs as another user below it
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, text, 0o600); err != nil { //nolint:gosec // the caller says where
		return err
	}
	return os.Rename(part, path)
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(text, '\n'))
}
