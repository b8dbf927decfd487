package mqtt_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

func (s *peer) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not after 20 s", what)
		}
	}
}

func TestPublishReturnsWhenTheServerHasAcknowledged(t *testing.T) {
	for _, v := range []mqtt.Version{v3, v5} {
		s := (&peer{}).start(t, nil)
		c := dial(t, mqtt.ClientOptions{Addr: s.addr, Version: v, ClientID: "dev", Username: "u", Password: []byte("p")})
		var want []string
		for qos := range byte(3) {
			if err := c.Publish(t.Context(), "a/b", fmt.Append(nil, qos), qos); err != nil {
				t.Errorf("MQTT %v, QoS %d: %v", v, qos, err)
			}
			want = append(want, fmt.Sprintf("a/b %d", qos))
		}
		if got := s.got(); !slices.Equal(got, want) {
			t.Errorf("MQTT %v: got %q, want %q", v, got, want)
		}
		if m := s.connects[0]; m.ClientID != "dev" || m.Username != "u" || string(m.Password) != "p" || m.KeepAlive != 60 {
			t.Errorf("MQTT %v: connected as %+v", v, m)
		}
	}
}

func TestManyInFlightArriveOnceAndInOrder(t *testing.T) {
	const n = 20_000
	for _, qos := range []byte{1, 2} {
		s := (&peer{connack: mqtt.Connack{Properties: mqtt.Properties{ReceiveMaximum: 100}}}).start(t, nil)
		c := dial(t, mqtt.ClientOptions{Addr: s.addr})
		var acked atomic.Int64
		for i := range n {
			props := &mqtt.Properties{User: mqtt.UserProperties{}.With("k", "v")}
			if err := c.PublishAsync("t", fmt.Append(nil, i), qos, props, func(err error) {
				if err == nil {
					acked.Add(1)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if acked.Load() != n {
			t.Errorf("QoS %d: %d acknowledged, want %d", qos, acked.Load(), n)
		}
		for i, m := range s.got() {
			if want := fmt.Sprintf("t %d k=v", i); m != want {
				t.Fatalf("QoS %d: message %d is %q, want %q", qos, i, m, want)
			}
		}
		if len(s.got()) != n {
			t.Errorf("QoS %d: %d arrived, want %d", qos, len(s.got()), n)
		}
	}
}

func TestManyGoroutinesMayPublishAtOnce(t *testing.T) {
	s := (&peer{}).start(t, nil)
	c := dial(t, mqtt.ClientOptions{Addr: s.addr, MaxInflight: 3})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for i := range 50 {
				if err := c.Publish(t.Context(), "t", []byte("x"), byte(i%3)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if err := c.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "all messages", func() bool { return len(s.got()) == 1000 })
}

func TestARefusalIsAnErrorWithItsReason(t *testing.T) {
	refused := func(err error, p mqtt.Type, r mqtt.Reason) bool {
		var no *mqtt.Refused
		return errors.As(err, &no) && no.Packet == p && no.Code == r
	}
	s := (&peer{reason: mqtt.ReasonQuotaExceeded}).start(t, nil)
	c := dial(t, mqtt.ClientOptions{Addr: s.addr})
	if err := c.Publish(t.Context(), "t", nil, 1); !refused(err, mqtt.TypePuback, mqtt.ReasonQuotaExceeded) {
		t.Errorf("QoS 1: %v", err)
	}
	if err := c.Publish(t.Context(), "t", nil, 2); !refused(err, mqtt.TypePubrec, mqtt.ReasonQuotaExceeded) {
		t.Errorf("QoS 2: %v", err)
	}
	reasons, err := c.Subscribe(t.Context(), mqtt.Subscription{Filter: "a", QoS: 1}, mqtt.Subscription{Filter: "forbidden"})
	if !refused(err, mqtt.TypeSuback, mqtt.ReasonNotAuthorized) || len(reasons) != 2 || reasons[0] != mqtt.ReasonGrantedQoS1 {
		t.Errorf("subscribe: %v, %v", reasons, err)
	}

	for _, v := range []mqtt.Version{v3, v5} {
		s = (&peer{connack: mqtt.Connack{Reason: mqtt.ReasonBadUserNameOrPassword}}).start(t, nil)
		_, err = mqtt.Dial(t.Context(), mqtt.ClientOptions{Addr: s.addr, Version: v})
		if !refused(err, mqtt.TypeConnack, mqtt.ReasonBadUserNameOrPassword) {
			t.Errorf("connect with MQTT %v: %v", v, err)
		}
	}
}

func TestSubscribedMessagesArrive(t *testing.T) {
	for _, v := range []mqtt.Version{v3, v5} {
		for qos := range byte(3) {
			var mu sync.Mutex
			var got []string
			s := (&peer{}).start(t, nil)
			c := dial(t, mqtt.ClientOptions{Addr: s.addr, Version: v, OnMessage: func(m *mqtt.Publish) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprintf("%s %s %d", m.Topic, m.Payload, m.QoS))
			}})
			reasons, err := c.Subscribe(t.Context(), mqtt.Subscription{Filter: "a/+", QoS: qos})
			if err != nil || len(reasons) != 1 || reasons[0] != mqtt.Reason(qos) {
				t.Fatalf("subscribe: %v, %v", reasons, err)
			}
			if err := c.Publish(t.Context(), "a/b", []byte("x"), 2); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("a/b x %d", qos)
			eventually(t, want, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return slices.Contains(got, want)
			})
			if _, err := c.Unsubscribe(t.Context(), "a/+"); err != nil {
				t.Error(err)
			}
			if err := c.Disconnect(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestALostConnectionEndsWhatIsInFlight(t *testing.T) {
	arrived := make(chan struct{}, 10)
	s := (&peer{on: func(p mqtt.Packet, out []byte) ([]byte, bool) {
		if p.Type == mqtt.TypePublish {
			arrived <- struct{}{}
		}
		return out, p.Type == mqtt.TypePublish // and no answer
	}}).start(t, nil)
	c := dial(t, mqtt.ClientOptions{Addr: s.addr, MaxInflight: 10})
	ends := make(chan error, 10)
	for range 10 {
		if err := c.PublishAsync("t", nil, 1, nil, func(err error) { ends <- err }); err != nil {
			t.Fatal(err)
		}
		<-arrived
	}
	full, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Publish(full, "t", nil, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a full window: %v, want the deadline", err)
	}
	if err := c.Drain(full); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v, want the deadline", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	<-c.Done()
	for range 10 {
		if err := <-ends; !errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("in flight: %v, want %v", err, mqtt.ErrClosed)
		}
	}
	if err := c.Publish(t.Context(), "t", nil, 1); !errors.Is(err, mqtt.ErrClosed) || !errors.Is(c.Err(), mqtt.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestDisconnectSaysGoodByeAndCloseDoesNot(t *testing.T) {
	s := (&peer{}).start(t, nil)
	for want, end := range map[mqtt.Type]func(*mqtt.Client) error{
		mqtt.TypeDisconnect: func(c *mqtt.Client) error { return c.Disconnect(t.Context()) },
		mqtt.TypeConnect:    (*mqtt.Client).Close,
	} {
		s.mu.Lock()
		s.ended = nil
		s.mu.Unlock()
		c := dial(t, mqtt.ClientOptions{Addr: s.addr})
		if err := end(c); err != nil {
			t.Error(err)
		}
		eventually(t, "the end of the connection", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Equal(s.ended, []mqtt.Type{want})
		})
		if err := c.Disconnect(t.Context()); err != nil {
			t.Errorf("once more: %v", err)
		}
	}
}

func TestSilenceIsFilledWithPings(t *testing.T) {
	pings := make(chan struct{}, 100)
	s := (&peer{on: func(p mqtt.Packet, out []byte) ([]byte, bool) {
		if p.Type == mqtt.TypePingreq {
			pings <- struct{}{}
		}
		return out, false
	}}).start(t, nil)
	c := dial(t, mqtt.ClientOptions{Addr: s.addr, KeepAlive: 20 * time.Millisecond})
	for range 3 {
		<-pings
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

func TestAServerThatAnswersNoPingIsGivenUp(t *testing.T) {
	s := (&peer{on: func(p mqtt.Packet, out []byte) ([]byte, bool) { return out, p.Type == mqtt.TypePingreq }}).start(t, nil)
	c := dial(t, mqtt.ClientOptions{Addr: s.addr, KeepAlive: 20 * time.Millisecond})
	<-c.Done()
	if err := c.Err(); !errors.Is(err, mqtt.ErrKeepAlive) {
		t.Errorf("got %v, want %v", err, mqtt.ErrKeepAlive)
	}
}

func TestWhatTheServerDoesNotTakeIsRefusedHere(t *testing.T) {
	limits := mqtt.Properties{MaximumPacketSize: 100, MaximumQoS: 1, AssignedClientID: []byte("made-up")}
	limits.Set(mqtt.PropRetainAvailable)
	s := (&peer{connack: mqtt.Connack{Properties: limits}}).start(t, nil)
	c := dial(t, mqtt.ClientOptions{Addr: s.addr})
	if id := c.ClientID(); id != "made-up" {
		t.Errorf("client identifier is %q", id)
	}
	for want, m := range map[mqtt.Reason]*mqtt.Publish{
		mqtt.ReasonPacketTooLarge:     {QoS: 1, Topic: []byte("t"), Payload: make([]byte, 100)},
		mqtt.ReasonQoSNotSupported:    {QoS: 2, Topic: []byte("t")},
		mqtt.ReasonRetainNotSupported: {Retain: true, Topic: []byte("t")},
		mqtt.ReasonTopicAliasInvalid:  {Properties: mqtt.Properties{TopicAlias: 1}},
		mqtt.ReasonMalformedPacket:    {Topic: []byte("t/#")},
		mqtt.ReasonProtocolError:      {Topic: []byte("t"), Properties: mqtt.Properties{ReceiveMaximum: 1}},
	} {
		err := c.Send(m, func(error) { t.Error("done was called for a message that was not taken") })
		var fault *mqtt.Error
		if !errors.As(err, &fault) || fault.Code != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if err := c.Publish(t.Context(), "t", []byte("fits"), 1); err != nil {
		t.Errorf("and what it takes: %v", err)
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Errorf("refused messages hold nothing: %v", err)
	}

	s = (&peer{connack: mqtt.Connack{SessionPresent: true}}).start(t, nil)
	c = dial(t, mqtt.ClientOptions{Addr: s.addr, ClientID: "dev", SessionExpiry: -1})
	if err := c.Publish(t.Context(), "t", nil, 2); !errors.Is(err, mqtt.ErrResumed) || !c.Connack().SessionPresent {
		t.Errorf("QoS 2 in an earlier session: %v", err)
	}
}

func TestAServerThatBreaksTheProtocolEndsTheClient(t *testing.T) {
	for name, answer := range map[string]string{
		"identifier that is not in flight": "40 02 0009",
		"PUBREC for QoS 1":                 "50 02 0001",
		"SUBACK unasked":                   "90 04 0001 00 00",
		"topic alias":                      "30 07 0001 'a' 03 23 0001",
		"CONNACK again":                    "20 03 00 00 00",
		"malformed":                        "40 01 00",
		"too large":                        "30 ff ff ff 7f",
	} {
		s := (&peer{on: func(p mqtt.Packet, out []byte) ([]byte, bool) {
			if p.Type == mqtt.TypePublish {
				return append(out, unhex(t, answer)...), true
			}
			return out, false
		}}).start(t, nil)
		c := dial(t, mqtt.ClientOptions{Addr: s.addr})
		err := c.Publish(t.Context(), "t", nil, 1)
		var fault *mqtt.Error
		if !errors.As(err, &fault) || !errors.As(c.Err(), &fault) {
			t.Errorf("%s: %v, want an *Error", name, err)
		}
	}
	s := (&peer{on: func(p mqtt.Packet, out []byte) ([]byte, bool) {
		return append(out, 0xe0, 1, 0x8e), p.Type == mqtt.TypePublish
	}}).start(t, nil)
	if _, err := mqtt.Dial(t.Context(), mqtt.ClientOptions{Addr: s.addr}); err == nil {
		t.Error("a DISCONNECT in place of CONNACK was taken")
	}
}

func TestADisconnectOfTheServerTellsWhy(t *testing.T) {
	s := (&peer{on: func(p mqtt.Packet, out []byte) ([]byte, bool) {
		if p.Type == mqtt.TypePublish {
			return append(out, 0xe0, 1, 0x8e), true
		}
		return out, false
	}}).start(t, nil)
	c := dial(t, mqtt.ClientOptions{Addr: s.addr})
	err := c.Publish(t.Context(), "t", nil, 1)
	var no *mqtt.Refused
	if !errors.As(err, &no) || no.Code != mqtt.ReasonSessionTakenOver {
		t.Errorf("got %v, want %v", err, mqtt.ReasonSessionTakenOver)
	}
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	s := (&peer{on: func(_ mqtt.Packet, out []byte) ([]byte, bool) { return out, true }}).start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := mqtt.Dial(ctx, mqtt.ClientOptions{Addr: s.addr}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	s := (&peer{}).start(t, nil)
	for name, o := range map[string]mqtt.ClientOptions{
		"version":         {Version: 3},
		"keep alive":      {KeepAlive: 24 * time.Hour},
		"session expiry":  {Version: v3, SessionExpiry: time.Hour},
		"will":            {Will: &mqtt.Will{Topic: "#"}},
		"password, 3.1.1": {Version: v3, Password: []byte("x")},
	} {
		o.Addr = s.addr
		if _, err := mqtt.Dial(t.Context(), o); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // lends its certificate, which is for example.com
	defer web.Close()
	roots := web.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	s := (&peer{}).start(t, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
	c := dial(t, mqtt.ClientOptions{Addr: s.addr, TLS: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}})
	if err := c.Publish(t.Context(), "t", []byte("x"), 2); err != nil {
		t.Error(err)
	}
	if err := c.Disconnect(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := mqtt.Dial(t.Context(), mqtt.ClientOptions{Addr: s.addr, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}); err == nil {
		t.Error("a certificate of nobody we know was taken")
	}
}
