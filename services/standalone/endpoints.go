package standalone

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/connect"
)

// Endpoints is where a running instance listens: the content of endpoints.json in its data directory, for scripts and
// tests that let the system choose the ports.
type Endpoints struct {
	HTTP  string `json:"http"`            // base URL
	MQTT  string `json:"mqtt"`            // host:port
	MQTTS string `json:"mqtts,omitempty"` // host:port, with TLS
	NATS  string `json:"nats,omitempty"`  // URL
	PID   int    `json:"pid"`
}

// write puts the endpoints into the data directory in one step.
func (e Endpoints) write(data string) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(data, "endpoints.json")
	if err := os.WriteFile(name+".tmp", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(name+".tmp", name)
}

// remove takes them away when the instance ends.
func (e Endpoints) remove(data string) { _ = os.Remove(filepath.Join(data, "endpoints.json")) }

// listeners returns what this process opens, for the check that nothing leaves loopback unguarded.
func (c *Config) listeners() []access.Listener {
	all := []access.Listener{{Key: "http.addr", Addr: c.HTTP.Addr, TLS: c.HTTP.TLS.On()}}
	if c.runs("ingest") {
		edge := c.Ingest
		edge.HTTP.Addr = "" // mounted on the one listener
		all = append(all, edge.Listeners()...)
	}
	if c.Bus.URL == connect.Embedded {
		all = append(all, access.Listener{Key: "bus.listen", Addr: c.Bus.Listen, TLS: c.Bus.ListenTLS.On()})
	}
	return all
}
