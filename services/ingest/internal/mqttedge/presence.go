package mqttedge

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/millrace/millrace/pkg/telemetry"
)

// unheard is the ticket of records that nobody waits for: wills, and beginnings and ends of connections. What becomes of
// them is said in the log when it is bad.
type unheard struct{ log *slog.Logger }

// Done implements bus.Ticket.
func (u *unheard) Done(n int, err error) {
	if err != nil {
		u.log.Error("wills or connection events are lost", "records", n, "error", err)
	}
}

// tellPresence appends that the device of this connection came or went; nothing for a connection without a device.
func (c *conn) tellPresence(ctx context.Context, p telemetry.Session) {
	if c.device == "" {
		return
	}
	p.ClientID = c.clientID
	value, err := json.Marshal(p)
	if err != nil { // strings and a boolean
		return
	}
	now := telemetry.At(c.edge.now())
	m := telemetry.Message{
		DeviceID: c.device, ChannelKey: "session", ChannelType: "json", ChannelValue: value,
		EventTime: now, IngestTime: now, Source: protocol, Credential: c.sender.Load().Credential(),
	}
	if err := c.edge.pipeline.Session(ctx, &m, &c.edge.unheard); err != nil {
		c.edge.log.Error("a connection event is lost", "device", c.device, "connected", p.Connected, "error", err)
	}
}

// bind says for which device this connection stands: the one whose key it has, else the first that it sends for.
func (c *conn) bind(ctx context.Context, device string) {
	if c.device != "" || device == "" {
		return
	}
	c.device = device
	name := "mqtt3.1.1"
	if c.version5() {
		name = "mqtt5"
	}
	c.tellPresence(ctx, telemetry.Session{Connected: true, Address: c.socket.RemoteAddr().String(), Protocol: name})
}
