package mqtt_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/millrace/millrace/pkg/mqtt"
)

const (
	v3 = mqtt.Version311
	v5 = mqtt.Version5
)

// unhex reads bytes as the tables below write them; 'text' stands for itself.
func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	var out []byte
	for f := range strings.FieldsSeq(s) {
		if text, ok := strings.CutPrefix(f, "'"); ok {
			out = append(out, strings.TrimSuffix(text, "'")...)
			continue
		}
		b, err := hex.DecodeString(f)
		if err != nil {
			tb.Fatalf("%q: %v", f, err)
		}
		out = append(out, b...)
	}
	return out
}

// one reads the only packet of b, with the reader fed one byte at a time.
func one(tb testing.TB, b []byte, v mqtt.Version) mqtt.Packet {
	tb.Helper()
	r := mqtt.NewReader(iotest.OneByteReader(bytes.NewReader(b)), 0)
	r.SetVersion(v)
	p, err := r.Next()
	if err != nil {
		tb.Fatalf("read %x: %v", b, err)
	}
	p.Body = bytes.Clone(p.Body)
	if r.Unread() != 0 {
		tb.Fatalf("%d bytes left", r.Unread())
	}
	return p
}

// parse reads any packet into the struct of its type.
func parse(p mqtt.Packet, v mqtt.Version) (any, error) {
	switch p.Type {
	case mqtt.TypeConnect:
		return mqtt.ParseConnect(p.Body)
	case mqtt.TypeConnack:
		m, err := mqtt.ParseConnack(p.Body, v)
		return &m, err
	case mqtt.TypePublish:
		var m mqtt.Publish
		err := mqtt.ParsePublish(p.Flags, p.Body, v, &m)
		return &m, err
	case mqtt.TypePuback, mqtt.TypePubrec, mqtt.TypePubrel, mqtt.TypePubcomp:
		var m mqtt.Ack
		err := mqtt.ParseAck(p.Type, p.Body, v, &m)
		return &m, err
	case mqtt.TypeSubscribe:
		return mqtt.ParseSubscribe(p.Body, v)
	case mqtt.TypeUnsubscribe:
		return mqtt.ParseUnsubscribe(p.Body, v)
	case mqtt.TypeSuback, mqtt.TypeUnsuback:
		return mqtt.ParseSuback(p.Type, p.Body, v)
	case mqtt.TypeDisconnect:
		m, err := mqtt.ParseDisconnect(p.Body, v)
		return &m, err
	case mqtt.TypeAuth:
		m, err := mqtt.ParseAuth(p.Body, v)
		return &m, err
	case mqtt.TypePingreq, mqtt.TypePingresp:
		return p.Type, mqtt.ParsePing(p.Type, p.Body)
	default:
		return nil, fmt.Errorf("type %v", p.Type)
	}
}

// write is the inverse of parse.
func write(m any, v mqtt.Version) ([]byte, error) {
	switch m := m.(type) {
	case *mqtt.Connect:
		return mqtt.AppendConnect(nil, m)
	case *mqtt.Connack:
		return mqtt.AppendConnack(nil, v, m)
	case *mqtt.Publish:
		return mqtt.AppendPublish(nil, v, m)
	case *mqtt.Ack:
		return mqtt.AppendAck(nil, v, m)
	case *mqtt.Subscribe:
		return mqtt.AppendSubscribe(nil, v, m)
	case *mqtt.Unsubscribe:
		return mqtt.AppendUnsubscribe(nil, v, m)
	case *mqtt.Suback:
		return mqtt.AppendSuback(nil, v, m)
	case *mqtt.Disconnect:
		return mqtt.AppendDisconnect(nil, v, m)
	case *mqtt.Auth:
		return mqtt.AppendAuth(nil, m)
	case mqtt.Type:
		if m == mqtt.TypePingreq {
			return mqtt.AppendPingreq(nil), nil
		}
		return mqtt.AppendPingresp(nil), nil
	default:
		return nil, fmt.Errorf("%T", m)
	}
}

func goldens() []golden {
	return []golden{
		{
			"CONNECT 3.1.1 with all there is", v3,
			"10 27 0004 'MQTT' 04 ee 000a 0003 'dev' 0004 'will' 0003 'bye' 0004 'user' 0005 'p@ss1'",
			&mqtt.Connect{
				Version: v3, CleanStart: true, KeepAlive: 10, ClientID: "dev", HasUsername: true, HasPassword: true,
				Username: "user", Password: []byte("p@ss1"),
				Will: &mqtt.Will{Topic: "will", Payload: []byte("bye"), QoS: 1, Retain: true},
			},
		},
		{
			"CONNECT 5, the properties of 3.1.2.11", v5,
			"10 14 0004 'MQTT' 05 02 003c 05 11 0000000a 0002 'id'",
			&mqtt.Connect{Version: v5, CleanStart: true, KeepAlive: 60, ClientID: "id", Properties: mqtt.Properties{SessionExpiry: 10}},
		},
		{
			"CONNECT 5, password alone, will with properties", v5,
			"10 27 0004 'MQTT' 05 44 0000 03 21 0014 0001 'c' 0c 01 01 02 0000003c 18 00000005 0001 't' 0000 0002 ff00",
			&mqtt.Connect{
				Version: v5, ClientID: "c", HasPassword: true, Password: []byte{0xff, 0},
				Properties: mqtt.Properties{ReceiveMaximum: 20},
				Will:       &mqtt.Will{Topic: "t", Payload: []byte{}, Properties: mqtt.Properties{PayloadFormat: 1, WillDelay: 5, MessageExpiry: 60}},
			},
		},
		{"CONNACK 3.1.1 accepted", v3, "20 02 01 00", &mqtt.Connack{SessionPresent: true}},
		{"CONNACK 3.1.1 not authorized", v3, "20 02 00 05", &mqtt.Connack{Reason: mqtt.ReasonNotAuthorized}},
		{
			"CONNACK 5 with limits", v5, "20 0b 00 00 08 21 ffff 27 00040000",
			&mqtt.Connack{Properties: mqtt.Properties{ReceiveMaximum: 65535, MaximumPacketSize: 262144}},
		},
		{
			"CONNACK 5 refused, with text", v5, "20 08 00 87 05 1f 0002 'no'",
			&mqtt.Connack{Reason: mqtt.ReasonNotAuthorized, Properties: mqtt.Properties{ReasonString: []byte("no")}},
		},
		{
			"PUBLISH 3.1.1, QoS 1, the example of 3.3.2", v3, "32 0c 0003 'a/b' 000a 'hello'",
			&mqtt.Publish{QoS: 1, PacketID: 10, Topic: []byte("a/b"), Payload: []byte("hello")},
		},
		{
			"PUBLISH 3.1.1, QoS 2, DUP, RETAIN, no payload", v3, "3d 07 0003 'a/b' ffff",
			&mqtt.Publish{QoS: 2, Dup: true, Retain: true, PacketID: 65535, Topic: []byte("a/b"), Payload: []byte{}},
		},
		{
			"PUBLISH 5, QoS 0, no properties", v5, "30 07 0003 'a/b' 00 'x'",
			&mqtt.Publish{Topic: []byte("a/b"), Payload: []byte("x")},
		},
		{
			"PUBLISH 5, alias alone, user properties", v5,
			"32 17 0000 0001 11 23 0003 26 0001 'k' 0001 'v' 26 0000 0002 'vv' 31",
			&mqtt.Publish{
				QoS: 1, PacketID: 1, Topic: []byte{}, Payload: []byte("1"),
				Properties: mqtt.Properties{TopicAlias: 3, User: mqtt.UserProperties{}.With("k", "v").With("", "vv")},
			},
		},
		{
			"PUBLISH 5, what a request carries", v5,
			"30 1c 0001 't' 16 02 00000001 03 0001 'j' 08 0002 'r/' 09 0002 00ff 0b c801 7b7d",
			&mqtt.Publish{
				Topic: []byte("t"), Payload: []byte("{}"),
				Properties: mqtt.Properties{
					MessageExpiry: 1, ContentType: []byte("j"), ResponseTopic: []byte("r/"), CorrelationData: []byte{0, 0xff}, SubscriptionID: 200,
				},
			},
		},
		{"PUBACK 3.1.1", v3, "40 02 1234", &mqtt.Ack{Type: mqtt.TypePuback, PacketID: 0x1234}},
		{"PUBACK 5, short", v5, "40 02 1234", &mqtt.Ack{Type: mqtt.TypePuback, PacketID: 0x1234}},
		{
			"PUBACK 5 with a reason", v5, "40 03 0001 97",
			&mqtt.Ack{Type: mqtt.TypePuback, PacketID: 1, Reason: mqtt.ReasonQuotaExceeded},
		},
		{
			"PUBREC 5 with text", v5, "50 09 0001 80 05 1f 0002 'no'",
			&mqtt.Ack{Type: mqtt.TypePubrec, PacketID: 1, Reason: mqtt.ReasonUnspecified, Properties: mqtt.Properties{ReasonString: []byte("no")}},
		},
		{"PUBREL 3.1.1", v3, "62 02 0001", &mqtt.Ack{Type: mqtt.TypePubrel, PacketID: 1}},
		{"PUBREL 5", v5, "62 03 0001 92", &mqtt.Ack{Type: mqtt.TypePubrel, PacketID: 1, Reason: mqtt.ReasonPacketIDNotFound}},
		{"PUBCOMP 3.1.1", v3, "70 02 0001", &mqtt.Ack{Type: mqtt.TypePubcomp, PacketID: 1}},
		{
			"SUBSCRIBE 3.1.1, the example of 3.8.3", v3, "82 0e 000a 0003 'a/b' 01 0003 'c/d' 02",
			&mqtt.Subscribe{PacketID: 10, Subscriptions: []mqtt.Subscription{{Filter: "a/b", QoS: 1}, {Filter: "c/d", QoS: 2}}},
		},
		{
			"SUBSCRIBE 5 with all options", v5, "82 0b 0001 02 0b 05 0003 'a/#' 2d",
			&mqtt.Subscribe{PacketID: 1, Properties: mqtt.Properties{SubscriptionID: 5}, Subscriptions: []mqtt.Subscription{
				{Filter: "a/#", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
			}},
		},
		{"SUBACK 3.1.1", v3, "90 05 0001 00 02 80", &mqtt.Suback{
			Type: mqtt.TypeSuback, PacketID: 1, Reasons: []mqtt.Reason{0, 2, mqtt.ReasonUnspecified},
		}},
		{"SUBACK 5", v5, "90 05 0001 00 01 8f", &mqtt.Suback{
			Type: mqtt.TypeSuback, PacketID: 1, Reasons: []mqtt.Reason{1, mqtt.ReasonTopicFilterInvalid},
		}},
		{"UNSUBSCRIBE 3.1.1", v3, "a2 0c 0001 0003 'a/b' 0003 'c/d'", &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"a/b", "c/d"}}},
		{
			"UNSUBSCRIBE 5", v5, "a2 0d 0001 07 26 0001 'k' 0001 'v' 0001 'a'",
			&mqtt.Unsubscribe{PacketID: 1, Filters: []string{"a"}, Properties: mqtt.Properties{User: mqtt.UserProperties{}.With("k", "v")}},
		},
		{"UNSUBACK 3.1.1", v3, "b0 02 0001", &mqtt.Suback{Type: mqtt.TypeUnsuback, PacketID: 1}},
		{"UNSUBACK 5", v5, "b0 05 0001 00 00 11", &mqtt.Suback{
			Type: mqtt.TypeUnsuback, PacketID: 1, Reasons: []mqtt.Reason{0, mqtt.ReasonNoSubscriptionExisted},
		}},
		{"PINGREQ", v3, "c0 00", mqtt.TypePingreq},
		{"PINGRESP", v5, "d0 00", mqtt.TypePingresp},
		{"DISCONNECT 3.1.1", v3, "e0 00", &mqtt.Disconnect{}},
		{"DISCONNECT 5, short", v5, "e0 00", &mqtt.Disconnect{}},
		{"DISCONNECT 5 with a reason", v5, "e0 01 8e", &mqtt.Disconnect{Reason: mqtt.ReasonSessionTakenOver}},
		{
			"DISCONNECT 5 with session expiry", v5, "e0 07 04 05 11 00000001",
			&mqtt.Disconnect{Reason: mqtt.ReasonDisconnectWithWill, Properties: mqtt.Properties{SessionExpiry: 1}},
		},
		{
			"AUTH", v5, "f0 0b 18 09 15 0001 'm' 16 0002 beef",
			&mqtt.Auth{Reason: mqtt.ReasonContinueAuthentication, Properties: mqtt.Properties{AuthMethod: []byte("m"), AuthData: []byte{0xbe, 0xef}}},
		},
		{"AUTH, short", v5, "f0 00", &mqtt.Auth{}},
	}
}

type golden struct {
	name string
	v    mqtt.Version
	wire string
	want any
}

func TestPacketsReadAndWriteAsTheSpecificationHasThem(t *testing.T) {
	for _, g := range goldens() {
		t.Run(g.name, func(t *testing.T) {
			wire := unhex(t, g.wire)
			got, err := parse(one(t, wire, g.v), g.v)
			if err != nil {
				t.Fatal(err)
			}
			again, err := write(got, g.v)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, wire) {
				t.Errorf("written again\n%x, want\n%x", again, wire)
			}
			if s := fmt.Sprintf("%+v", strip(got)); s != fmt.Sprintf("%+v", strip(g.want)) {
				t.Errorf("parsed\n%s, want\n%+v", s, strip(g.want))
			}
			if hand, err := write(g.want, g.v); err != nil || !bytes.Equal(hand, wire) {
				t.Errorf("made by hand\n%x, want\n%x (%v)", hand, wire, err)
			}
		})
	}
}

// strip takes out what only a parsed packet has: the marks of Has, and the properties that stand in User beside the pairs.
func strip(m any) any {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer {
		return m
	}
	s := v.Elem()
	out := fmt.Sprintf("%T", m)
	for _, f := range s.Fields() {
		switch x := f.Interface().(type) {
		case mqtt.Properties:
			out += fmt.Sprintf(" %+v", stripProperties(x))
		case *mqtt.Will:
			if x != nil {
				out += fmt.Sprintf(" %s %x %d %t %+v", x.Topic, x.Payload, x.QoS, x.Retain, stripProperties(x.Properties))
			}
		default:
			out += fmt.Sprintf(" %v", x)
		}
	}
	return out
}

func stripProperties(p mqtt.Properties) string {
	out := ""
	for k, v := range p.User.All() {
		out += fmt.Sprintf(" %s=%s", k, v)
	}
	p.User = nil
	v := reflect.ValueOf(p)
	for f, v := range v.Fields() {
		if f.IsExported() {
			out += fmt.Sprintf(" %s:%v", f.Name, v.Interface())
		}
	}
	return out
}
