package connect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/service"
)

// AccessConfig is the section "access" of the configuration file.
type AccessConfig struct {
	File     string `yaml:"file" doc:"File of hashed keys and tokens, edited by millrace token; empty means access.json in the data directory."`
	Required bool   `yaml:"required" doc:"Ask for keys on loopback too. Off loopback they are always asked for, unless insecure."`
}

// Path returns the access file of a process whose data is in data.
func (c AccessConfig) Path(data string) string {
	if c.File != "" {
		return c.File
	}
	return filepath.Join(data, "access.json")
}

// Open refuses a listener that would leave loopback unguarded, and follows the access file until ctx ends where any
// listener needs it. nil keys mean that everybody who reaches the listeners is let in.
func (c AccessConfig) Open(ctx context.Context, p *service.Process, data string, insecure bool, listeners []access.Listener) (*access.Keys, error) {
	path := c.Path(data)
	_, err := os.Stat(path)
	exists, needed := err == nil, c.Required
	var errs []error
	for _, l := range listeners {
		errs = append(errs, access.CheckListener(l, exists, insecure))
		needed = needed || (l.Addr != "" && !access.Loopback(l.Addr) && !insecure)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if !needed {
		return nil, nil //nolint:nilnil // open to everybody on this machine
	}
	keys, err := access.Open(ctx, path, p.Log, p.Now)
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	return keys, nil
}

// Keys is AccessConfig.Open for a worker that is a process of its own, by the sections of its configuration file.
func Keys(ctx context.Context, p *service.Process, listeners []access.Listener) (*access.Keys, error) {
	var cfg AccessConfig
	data, insecure := "data", false
	for section, into := range map[string]any{"access": &cfg, "data": &data, "insecure": &insecure} {
		if err := p.Config(section, into); err != nil {
			return nil, err
		}
	}
	return cfg.Open(ctx, p, data, insecure, listeners)
}
