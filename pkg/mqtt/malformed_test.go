package mqtt_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

func TestWhatTheSpecificationForbidsIsRefusedWithItsReason(t *testing.T) {
	const bad, wrong = mqtt.ReasonMalformedPacket, mqtt.ReasonProtocolError
	for _, tt := range []struct {
		name string
		v    mqtt.Version
		wire string
		want mqtt.Reason
	}{
		{"type 0", v5, "00 00", bad},
		{"AUTH in 3.1.1", v3, "f0 00", bad},
		{"an HTTP request", 0, "'GET'", bad},
		{"a TLS hello", 0, "16 03 01", bad},
		{"flags of PUBREL", v3, "60 02 0001", bad},
		{"flags of SUBSCRIBE", v3, "80 06 0001 0001 'a' 00", bad},
		{"flags of CONNECT", v3, "11 00", bad},
		{"QoS 3", v3, "36 05 0001 'a' 0001", bad},
		{"DUP with QoS 0", v3, "38 03 0001 'a'", bad},
		{"length of five bytes", v3, "30 80 80 80 80 01", bad},
		{"length longer than needed", v5, "30 84 00 0001 'a' 00", bad},
		{"a body behind PINGREQ", v3, "c0 01 00", bad},
		{"larger than the limit", v3, "30 ff ff 7f", mqtt.ReasonPacketTooLarge},

		{"MQTT 3.1", 0, "10 0e 0006 'MQIsdp' 03 02 000a 0000", mqtt.ReasonUnsupportedVersion},
		{"level 6", 0, "10 0c 0004 'MQTT' 06 02 000a 0000", mqtt.ReasonUnsupportedVersion},
		{"the bit of a bridge", 0, "10 0c 0004 'MQTT' 84 02 000a 0000", mqtt.ReasonUnsupportedVersion},
		{"reserved connect flag", 0, "10 0c 0004 'MQTT' 04 03 000a 0000", bad},
		{"QoS of a will without will", 0, "10 0c 0004 'MQTT' 04 0a 000a 0000", bad},
		{"QoS 3 of a will", 0, "10 0c 0004 'MQTT' 04 1e 000a 0000", bad},
		{"password without user name in 3.1.1", 0, "10 0e 0004 'MQTT' 04 42 000a 0000 0000", bad},
		{"no client identifier, no clean session", 0, "10 0c 0004 'MQTT' 04 00 000a 0000", mqtt.ReasonClientIDNotValid},
		{"no client identifier field", 0, "10 0a 0004 'MQTT' 04 02 000a", bad},
		{"bytes behind the CONNECT", 0, "10 0d 0004 'MQTT' 04 02 000a 0000 00", bad},
		{"client identifier is not UTF-8", 0, "10 0e 0004 'MQTT' 04 02 000a 0002 ff fe", bad},
		{"will topic with a wildcard", 0, "10 11 0004 'MQTT' 04 06 000a 0000 0001 '#' 0000", bad},
		{"receive maximum 0", 0, "10 10 0004 'MQTT' 05 02 000a 03 21 0000 0000", wrong},
		{"a property twice", 0, "10 13 0004 'MQTT' 05 02 000a 06 22 0001 22 0001 0000", wrong},
		{"authentication data without method", 0, "10 11 0004 'MQTT' 05 02 000a 04 16 0001 00 0000", wrong},
		{"a property of another packet", 0, "10 10 0004 'MQTT' 05 02 000a 03 23 0001 0000", wrong},
		{"a property that does not exist", 0, "10 0f 0004 'MQTT' 05 02 000a 02 0400 0000", bad},
		{"property length beyond the packet", 0, "10 0d 0004 'MQTT' 05 02 000a 7f 0000", bad},

		{"empty topic in 3.1.1", v3, "30 02 0000", bad},
		{"neither topic nor alias", v5, "30 03 0000 00", wrong},
		{"topic alias 0", v5, "30 06 0000 03 23 0000", mqtt.ReasonTopicAliasInvalid},
		{"wildcard in a topic", v3, "30 05 0003 'a/+'", bad},
		{"null character in a topic", v3, "30 05 0003 61 00 62", bad},
		{"surrogate in a topic", v3, "30 05 0003 ed a0 80", bad},
		{"topic longer than the packet", v3, "30 03 0004 'a'", bad},
		{"identifier 0", v3, "32 05 0001 'a' 0000", wrong},
		{"identifier missing", v3, "32 04 0001 'a' 00", bad},
		{"payload format 2", v5, "30 06 0001 'a' 02 01 02", wrong},
		{"wildcard in a response topic", v5, "30 08 0001 'a' 04 08 0001 '#'", wrong},
		{"user property is not UTF-8", v5, "30 0a 0001 'a' 06 26 0001 ff 0000", bad},
		{"property length longer than needed", v5, "30 05 0001 'a' 80 00", bad},

		{"PUBACK without identifier", v3, "40 00", bad},
		{"PUBACK of identifier 0", v3, "40 02 0000", wrong},
		{"PUBACK with a reason in 3.1.1", v3, "40 03 0001 00", bad},
		{"PUBACK with a reason of DISCONNECT", v5, "40 03 0001 8d", wrong},
		{"CONNACK with flags", v5, "20 03 02 00 00", bad},
		{"CONNACK with code 6", v3, "20 02 00 06", wrong},
		{"CONNACK refused with a session", v3, "20 02 01 05", wrong},
		{"SUBSCRIBE without filter", v3, "82 02 0001", wrong},
		{"SUBSCRIBE with QoS 3", v3, "82 06 0001 0001 'a' 03", bad},
		{"SUBSCRIBE with options of 5 in 3.1.1", v3, "82 06 0001 0001 'a' 05", bad},
		{"SUBSCRIBE with reserved options", v5, "82 07 0001 00 0001 'a' 41", bad},
		{"SUBSCRIBE with retain handling 3", v5, "82 07 0001 00 0001 'a' 30", wrong},
		{"SUBSCRIBE no local, shared", v5, "82 10 0001 00 000a '$share/g/a' 04", wrong},
		{"SUBSCRIBE, subscription identifier twice", v5, "82 0b 0001 04 0b01 0b01 0001 'a' 00", wrong},
		{"UNSUBSCRIBE without filter", v5, "a2 03 0001 00", wrong},
		{"SUBACK without reasons", v3, "90 02 0001", wrong},
		{"DISCONNECT with a body in 3.1.1", v3, "e0 01 00", bad},
		{"DISCONNECT with a reason of CONNACK", v5, "e0 01 86", wrong},
		{"AUTH without method", v5, "f0 02 18 00", wrong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mqtt.NewReader(bytes.NewReader(unhex(t, tt.wire)), 0)
			r.SetLimits(64 << 10)
			r.SetVersion(tt.v)
			p, err := r.Next()
			if err == nil {
				_, err = parse(p, tt.v)
			}
			var fault *mqtt.Error
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want an *Error with %v", err, tt.want)
			}
			if fault.Code != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestARefusedConnectStillTellsItsVersion(t *testing.T) {
	for wire, want := range map[string]mqtt.Version{
		"10 0e 0006 'MQIsdp' 03 02 000a 0000":          0,
		"10 0c 0004 'MQTT' 04 03 000a 0000":            v3,
		"10 10 0004 'MQTT' 05 02 000a 03 21 0000 0000": v5,
	} {
		m, err := mqtt.ParseConnect(one(t, unhex(t, wire), 0).Body)
		if err == nil || m == nil || m.Version != want {
			t.Errorf("%s: got %+v, %v, want version %v and an error", wire, m, err, want)
		}
	}
}

func TestWhatCannotBeSentIsRefusedAndTheBufferStaysAsItWas(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 65_536)
	for name, m := range map[string]any{
		"topic too long":            &mqtt.Publish{Topic: long},
		"topic with a wildcard":     &mqtt.Publish{Topic: []byte("a/#")},
		"no topic":                  &mqtt.Publish{},
		"topic is not UTF-8":        &mqtt.Publish{Topic: []byte{0xff}},
		"QoS 3":                     &mqtt.Publish{Topic: []byte("a"), QoS: 3, PacketID: 1},
		"QoS 1 without identifier":  &mqtt.Publish{Topic: []byte("a"), QoS: 1},
		"DUP with QoS 0":            &mqtt.Publish{Topic: []byte("a"), Dup: true},
		"foreign property":          &mqtt.Publish{Topic: []byte("a"), Properties: mqtt.Properties{ReceiveMaximum: 1}},
		"user property too long":    &mqtt.Publish{Topic: []byte("a"), Properties: mqtt.Properties{User: mqtt.UserProperties{}.With("k", string(long))}},
		"user property, no UTF-8":   &mqtt.Publish{Topic: []byte("a"), Properties: mqtt.Properties{User: mqtt.UserProperties{}.With("k", "\xff")}},
		"content type too long":     &mqtt.Publish{Topic: []byte("a"), Properties: mqtt.Properties{ContentType: long}},
		"acknowledgement of 0":      &mqtt.Ack{Type: mqtt.TypePuback},
		"no acknowledgement":        &mqtt.Ack{Type: mqtt.TypeConnect, PacketID: 1},
		"no filters":                &mqtt.Subscribe{PacketID: 1},
		"bad filter":                &mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "a#"}}},
		"bad filter to unsubscribe": &mqtt.Unsubscribe{PacketID: 1, Filters: []string{""}},
		"reason of another packet":  &mqtt.Disconnect{Reason: mqtt.ReasonGrantedQoS1},
		"no version":                &mqtt.Connect{},
		"client identifier":         &mqtt.Connect{Version: v5, ClientID: "a\x00"},
		"password in 3.1.1":         &mqtt.Connect{Version: v3, Password: []byte("x")},
		"will without topic":        &mqtt.Connect{Version: v3, Will: &mqtt.Will{}},
		"will with QoS 3":           &mqtt.Connect{Version: v5, Will: &mqtt.Will{Topic: "t", QoS: 3}},
		"properties of 5 in 3.1.1":  &mqtt.Connect{Version: v3, Properties: mqtt.Properties{SessionExpiry: 1}},
	} {
		out, err := write(m, v5)
		var fault *mqtt.Error
		if !errors.As(err, &fault) || len(out) != 0 {
			t.Errorf("%s: got %d bytes and %v, want none and an *Error", name, len(out), err)
		}
	}
	p := &mqtt.Publish{Topic: []byte("a"), Properties: mqtt.Properties{User: mqtt.UserProperties{}.With("k", "v")}}
	if out, err := mqtt.AppendPublish([]byte("before"), v3, p); err == nil || string(out) != "before" {
		t.Errorf("user properties in 3.1.1: got %q and %v, want a refusal", out, err)
	}
}
