package standalone

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/services/standalone/internal/jsonfile"
)

const endpointsName = "endpoints.json"

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
	name := filepath.Join(data, endpointsName)
	if err := jsonfile.Write(name, e); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// remove takes them away when the instance ends.
func (e Endpoints) remove(data string) { _ = os.Remove(filepath.Join(data, endpointsName)) }

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
