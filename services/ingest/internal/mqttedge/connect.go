package mqttedge

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/mqtt"
)

const (
	clientIDBytesMax = 256
	aliasesMax       = 32 // topic aliases of a connection
)

// handshake takes CONNECT and answers it. false: the connection is of no more use, and the client was told why where it can be.
func (c *conn) handshake(hard context.Context) bool {
	ctx, cancel := context.WithTimeout(hard, c.edge.cfg.ConnectTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m, err := c.readConnect(ctx)
	if fault, ok := errors.AsType[*mqtt.Error](err); ok && fault.Code == mqtt.ReasonUnsupportedVersion {
		m.Version = mqtt.Version311 // code 1 is what clients of MQTT 3.1 understand as well
	}
	if err != nil && (m == nil || m.Version == 0) {
		c.edge.metrics.connects.WithLabelValues(noConnect(err)).Inc()
		return false
	}
	present := false
	if err == nil {
		present, err = c.accept(ctx, m)
	}
	if err != nil {
		c.edge.metrics.fault(err)
		c.refuseConnect(m, err)
		return false
	}
	answer := c.connack(m, present)
	out, err := mqtt.AppendConnack(nil, c.version, &answer)
	if err == nil {
		_, err = c.socket.Write(out)
	}
	if err != nil || !stop() {
		c.end(ending{why: "connection lost before CONNACK"})
		c.letGo(hard, false)
		return false
	}
	c.edge.metrics.connects.WithLabelValues("accepted").Inc()
	return true
}

var errNotConnect = errors.New("another packet is first, want CONNECT")

// handshakeError is a TLS handshake that failed.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// noConnect is the label of a connection that never said who it is.
func noConnect(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "no_connect_in_time"
	}
	if _, ok := errors.AsType[*handshakeError](err); ok {
		return "tls_failed"
	}
	if fault, ok := errors.AsType[*mqtt.Error](err); ok {
		if fault.Code == mqtt.ReasonPacketTooLarge {
			return "connect_too_large"
		}
		return "no_mqtt"
	}
	if errors.Is(err, errNotConnect) {
		return "no_mqtt"
	}
	return "closed_before_connect"
}

// readConnect returns the first packet. With an error, m says in which version to answer, where it says anything.
func (c *conn) readConnect(ctx context.Context) (m *mqtt.Connect, err error) {
	if secure, ok := c.socket.(*tls.Conn); ok {
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, &handshakeError{err}
		}
	}
	c.reader.SetLimits(c.edge.cfg.ConnectBytesMax)
	c.source.raw = true
	p, err := c.reader.Next()
	c.source.raw = false
	if err != nil {
		return nil, fmt.Errorf("read CONNECT: %w", err)
	}
	if p.Type != mqtt.TypeConnect {
		return nil, fmt.Errorf("%v: %w", p.Type, errNotConnect)
	}
	return mqtt.ParseConnect(p.Body)
}

// accept checks a CONNECT and takes its session. The error is a *mqtt.Refused, or a *mqtt.Error.
func (c *conn) accept(ctx context.Context, m *mqtt.Connect) (present bool, err error) {
	refuse := func(code mqtt.Reason, text string) error {
		return &mqtt.Refused{Packet: mqtt.TypeConnack, Code: code, Text: text}
	}
	if m.Properties.Has(mqtt.PropAuthMethod) {
		return false, refuse(mqtt.ReasonBadAuthenticationMethod, "no authentication method is supported")
	}
	if len(m.ClientID) > clientIDBytesMax {
		return false, refuse(mqtt.ReasonClientIDNotValid, fmt.Sprintf("want at most %d bytes", clientIDBytesMax))
	}
	cred, err := c.edge.authenticate(m)
	if err != nil {
		return false, refuse(mqtt.ReasonBadUserNameOrPassword, "the password must be the device's key")
	}
	sender := c.edge.permit.Sender(cred)
	c.sender.Store(sender)
	if c.will, err = newWill(m, sender, c.edge.cfg.PacketBytesMax); err != nil {
		return false, err
	}
	c.version, c.clientID = m.Version, m.ClientID
	if c.clientID == "" {
		c.clientID = "millrace-" + rand.Text()
	}
	session, present, due, err := c.edge.sessions.attach(ctx, sender.Credential()+"\x00"+c.clientID, c, m.CleanStart)
	if err != nil {
		return false, refuse(mqtt.ReasonServerUnavailable, err.Error())
	}
	c.edge.publishWill(ctx, due)
	c.session = session
	c.session.expiry = c.expiry(m)
	c.session.outgoing.limit(m, c.edge.cfg.SubscriberInflight)
	if device := sender.Device(); device != "" { // here, since the connection that held the session has gone by now
		if !c.edge.door.enterDevice(device) {
			c.edge.metrics.turnedAway.WithLabelValues(turnedDevice).Inc()
			c.edge.publishWill(ctx, c.edge.sessions.detach(session, nil))
			close(c.gone)
			return false, refuse(mqtt.ReasonQuotaExceeded, "the device has too many connections")
		}
		c.counted = device
	}
	c.reader.SetLimits(c.edge.cfg.PacketBytesMax)
	c.reader.SetVersion(c.version)
	c.source.every = c.keepAlive(m) * 3 / 2
	c.aliases = nil
	c.edge.recheckNew(c)
	return present, nil
}

// authenticate returns the credential whose secret is the password; nil on an open listener.
func (e *Edge) authenticate(m *mqtt.Connect) (*access.Credential, error) {
	if e.keys == nil {
		return nil, nil
	}
	return e.keys.Authenticate(string(m.Password))
}

// recheckNew closes the gap between authentication and the moment from which a change of the keys finds this connection.
func (e *Edge) recheckNew(c *conn) {
	if e.keys != nil {
		e.recheck(c)
	}
}

// expiry returns how long the session outlives the connection. In MQTT 3.1.1 a session that is not clean has no end of its own.
func (c *conn) expiry(m *mqtt.Connect) time.Duration {
	if c.version5() {
		return expiryOf(m.Properties.SessionExpiry, c.edge.cfg.SessionExpiryMax)
	}
	if m.CleanStart {
		return 0
	}
	return c.edge.cfg.SessionExpiryMax
}

// keepAlive returns the interval that is in force, 0 for none. Only an MQTT 5 client can be given another than it asked for.
func (c *conn) keepAlive(m *mqtt.Connect) time.Duration {
	asked := time.Duration(m.KeepAlive) * time.Second
	if most := c.edge.cfg.KeepAliveMax; c.version5() && (asked == 0 || asked > most) {
		return most
	}
	return asked
}

func (c *conn) connack(m *mqtt.Connect, present bool) mqtt.Connack {
	a := mqtt.Connack{SessionPresent: present}
	if !c.version5() {
		return a
	}
	p := &a.Properties
	// Some libraries cut themselves off at the Receive Maximum; what is in flight is bounded in bytes instead.
	p.ReceiveMaximum = math.MaxUint16
	p.MaximumPacketSize = uint32(c.edge.cfg.PacketBytesMax) //nolint:gosec // validated to be far smaller
	p.TopicAliasMaximum = aliasesMax
	// Not available. RETAIN is not refused: devices set it, and a message that is kept in a table is kept after all.
	p.Set(mqtt.PropSharedAvailable)
	p.Set(mqtt.PropSubscriptionIDsAvailable)
	if asked := m.Properties.SessionExpiry; time.Duration(asked)*time.Second != c.session.expiry {
		p.SessionExpiry = uint32(c.session.expiry / time.Second) //nolint:gosec // at most what fits
		p.Set(mqtt.PropSessionExpiry)
	}
	if kept := c.keepAlive(m); kept != time.Duration(m.KeepAlive)*time.Second {
		p.ServerKeepAlive = uint16(kept / time.Second) //nolint:gosec // validated
	}
	if m.ClientID == "" {
		p.AssignedClientID = []byte(c.clientID)
	}
	return a
}

// refuseConnect answers a CONNECT with the reason why not.
func (c *conn) refuseConnect(m *mqtt.Connect, err error) {
	answer := mqtt.Connack{Reason: mqtt.ReasonUnspecified}
	if refused, ok := errors.AsType[*mqtt.Refused](err); ok {
		answer.Reason = refused.Code
		answer.Properties.ReasonString = []byte(refused.Text)
	} else if fault, ok := errors.AsType[*mqtt.Error](err); ok {
		answer.Reason = fault.Code
		answer.Properties.ReasonString = []byte(fault.Detail)
	}
	c.edge.metrics.connects.WithLabelValues("refused").Inc()
	c.edge.log.Debug("a connection was refused", "address", c.socket.RemoteAddr().String(), "client_id", m.ClientID, "error", err)
	out, err := mqtt.AppendConnack(nil, m.Version, &answer)
	if err != nil { // a code that CONNACK has not
		answer = mqtt.Connack{Reason: mqtt.ReasonUnspecified}
		out, _ = mqtt.AppendConnack(nil, m.Version, &answer)
	}
	_, _ = c.socket.Write(out) // the connection is closed next, whatever comes of it
}
