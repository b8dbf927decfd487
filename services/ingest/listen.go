package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/listen"
)

// listeners are those that the configuration asks for.
type listeners struct {
	mqtt []net.Listener
	http net.Listener // nil for none
}

func (l *listeners) close() error {
	var errs []error
	for _, ln := range l.mqtt {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// Listeners returns what the configuration opens, for access.CheckListener.
func (c Config) Listeners() []access.Listener {
	return []access.Listener{
		{Key: "ingest.mqtt.addr", Addr: c.MQTT.Addr},
		{Key: "ingest.mqtt.tls_addr", Addr: c.MQTT.TLSAddr, TLS: true},
		{Key: "ingest.http.addr", Addr: c.HTTP.Addr, TLS: c.HTTP.TLS.On()},
	}
}

// listen opens all listeners or none.
func (i *Ingest) listen(ctx context.Context) (open listeners, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, open.close())
		}
	}()
	c := i.cfg
	if c.MQTT.Addr != "" {
		ln, err := i.listenOn(ctx, "mqtt", c.MQTT.Addr, listen.TLS{})
		if err != nil {
			return open, err
		}
		open.mqtt = append(open.mqtt, ln)
	}
	if c.MQTT.TLSAddr != "" {
		ln, err := i.listenOn(ctx, "mqtts", c.MQTT.TLSAddr, c.MQTT.TLS)
		if err != nil {
			return open, err
		}
		open.mqtt = append(open.mqtt, ln)
	}
	if c.HTTP.Addr == "" || i.deps.Mounted {
		return open, nil
	}
	open.http, err = i.listenOn(ctx, "http", c.HTTP.Addr, c.HTTP.TLS)
	return open, err
}

func (i *Ingest) listenOn(ctx context.Context, name, addr string, secure listen.TLS) (net.Listener, error) {
	ln, err := listen.Open(ctx, addr, secure, i.deps.Now)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", name, err)
	}
	i.deps.Log.InfoContext(ctx, "listening", "protocol", name, "addr", ln.Addr().String())
	if i.deps.Listening != nil {
		i.deps.Listening(name, ln.Addr())
	}
	return ln, nil
}
