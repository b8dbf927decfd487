package mqtt_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

// peer is a server for one connection at a time, made of this package: it acknowledges all it gets, keeps what was
// published, and sends each message back to a connection that has subscribed to anything that matches. Hooks change what it answers.
type peer struct {
	addr    string
	connack mqtt.Connack
	reason  mqtt.Reason                              // for PUBACK and PUBREC
	on      func(mqtt.Packet, []byte) ([]byte, bool) // appends an answer of its own; true: that was all
	sink    bool                                     // keep nothing

	mu       sync.Mutex
	messages []string
	connects []*mqtt.Connect
	ended    []mqtt.Type // the last packet of each connection
}

func (s *peer) start(tb testing.TB, cfg *tls.Config) *peer {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if cfg != nil {
		l = tls.NewListener(l, cfg)
	}
	s.addr = l.Addr().String()
	var group sync.WaitGroup
	conns := make(chan net.Conn, 16)
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns <- conn
			group.Go(func() {
				s.serve(conn)
				_ = conn.Close()
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		for len(conns) > 0 {
			_ = (<-conns).Close()
		}
		group.Wait()
	})
	return s
}

func (s *peer) serve(conn net.Conn) {
	r := mqtt.NewReader(conn, 64<<10)
	var out []byte
	var version mqtt.Version
	var filters []mqtt.Subscription
	var last mqtt.Type
	defer func() {
		s.mu.Lock()
		s.ended = append(s.ended, last)
		s.mu.Unlock()
	}()
	for {
		p, err := r.Next()
		if err != nil {
			return
		}
		last = p.Type
		handled := false
		if s.on != nil {
			out, handled = s.on(p, out)
		}
		if !handled {
			if out, err = s.answer(p, out, &version, &filters); err != nil {
				return
			}
		}
		if !r.Buffered() || len(out) > 64<<10 {
			if _, err := conn.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		if p.Type == mqtt.TypeDisconnect {
			return
		}
	}
}

func (s *peer) answer(p mqtt.Packet, out []byte, v *mqtt.Version, filters *[]mqtt.Subscription) ([]byte, error) {
	switch p.Type {
	case mqtt.TypeConnect:
		m, err := mqtt.ParseConnect(p.Body)
		if err != nil {
			return out, err
		}
		*v = m.Version
		s.mu.Lock()
		s.connects = append(s.connects, m)
		s.mu.Unlock()
		return mqtt.AppendConnack(out, *v, &s.connack)
	case mqtt.TypePublish:
		return s.publish(p, out, *v, *filters)
	case mqtt.TypePubrec:
		return mqtt.AppendPubrel(out, *v, 7, mqtt.ReasonSuccess), nil
	case mqtt.TypePubrel:
		var a mqtt.Ack
		err := mqtt.ParseAck(p.Type, p.Body, *v, &a)
		return mqtt.AppendPubcomp(out, *v, a.PacketID, mqtt.ReasonSuccess), err
	case mqtt.TypeSubscribe:
		m, err := mqtt.ParseSubscribe(p.Body, *v)
		if err != nil {
			return out, err
		}
		*filters = append(*filters, m.Subscriptions...)
		back := mqtt.Suback{Type: mqtt.TypeSuback, PacketID: m.PacketID}
		for _, sub := range m.Subscriptions {
			r := mqtt.Reason(sub.QoS)
			if sub.Filter == "forbidden" {
				r = mqtt.ReasonNotAuthorized
			}
			back.Reasons = append(back.Reasons, r)
		}
		return mqtt.AppendSuback(out, *v, &back)
	case mqtt.TypeUnsubscribe:
		m, err := mqtt.ParseUnsubscribe(p.Body, *v)
		if err != nil {
			return out, err
		}
		*filters = nil
		return mqtt.AppendSuback(out, *v, &mqtt.Suback{
			Type: mqtt.TypeUnsuback, PacketID: m.PacketID, Reasons: make([]mqtt.Reason, len(m.Filters)),
		})
	case mqtt.TypePingreq:
		return mqtt.AppendPingresp(out), nil
	default:
		return out, nil
	}
}

func (s *peer) publish(p mqtt.Packet, out []byte, v mqtt.Version, filters []mqtt.Subscription) ([]byte, error) {
	var m mqtt.Publish
	if err := mqtt.ParsePublish(p.Flags, p.Body, v, &m); err != nil {
		return out, err
	}
	switch m.QoS {
	case 1:
		out = mqtt.AppendPuback(out, v, m.PacketID, s.reason)
	case 2:
		out = mqtt.AppendPubrec(out, v, m.PacketID, s.reason)
	}
	if s.sink {
		return out, nil
	}
	text := string(m.Topic) + " " + string(m.Payload)
	for k, val := range m.Properties.User.All() {
		text += " " + string(k) + "=" + string(val)
	}
	s.mu.Lock()
	s.messages = append(s.messages, text)
	s.mu.Unlock()
	for _, sub := range filters {
		if mqtt.Match(sub.Filter, m.Topic) {
			m.QoS = min(m.QoS, sub.QoS)
			if m.PacketID = 0; m.QoS > 0 {
				m.PacketID = 7
			}
			return mqtt.AppendPublish(out, v, &m)
		}
	}
	return out, nil
}

func dial(tb testing.TB, o mqtt.ClientOptions) *mqtt.Client {
	tb.Helper()
	c, err := mqtt.Dial(context.WithoutCancel(tb.Context()), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = c.Close()
		<-c.Done()
	})
	return c
}
