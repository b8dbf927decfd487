package ingest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

// authenticated waits until the edge knows a new key.
func (r *rig) authenticated(secret string) {
	r.t.Helper()
	eventually(r.t, "the key is known", func() bool {
		c, err := mqtt.Dial(context.Background(), mqtt.ClientOptions{Addr: r.addrs["mqtt"], Username: "u", Password: []byte(secret)})
		if err != nil {
			return false
		}
		_ = c.Close()
		<-c.Done()
		return true
	})
}

func (r *rig) post(secret, path, body string) int {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.url(path), strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	res, err := client(r.t).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func TestAKeySendsForItsDeviceAndNoOther(t *testing.T) {
	r := start(t, setup{keys: true, cfg: func(c *ingest.Config) {
		c.Gateways = []ingest.Gateway{{Device: "gate", For: []string{"child-*"}}}
	}})
	a, _ := r.key(access.Request{Device: "a"})
	parent, _ := r.key(access.Request{Device: "parent", ActsFor: []string{"kid-?"}})
	gateway, _ := r.key(access.Request{Device: "gate"})
	sender, _ := r.key(access.Request{Scopes: []access.Scope{access.ScopeSend}})
	reader, _ := r.key(access.Request{Scopes: []access.Scope{access.ScopeRead}})
	r.authenticated(reader)
	value := func(device string) string {
		return `{"MessageType":"Channel","DeviceId":"` + device + `","ChannelKey":"n","ChannelValue":1}`
	}
	for _, c := range []struct {
		name, secret, topic, body string
		ok                        bool
	}{
		{"its own topic", a, "a", value("a"), true},
		{"another's topic", a, "b", `{"n":1}`, false},
		{"another's body", a, "a", value("b"), false},
		{"no topic, its own body", a, "", value("a"), true},
		{"no topic, another's body", a, "", value("b"), false},
		{"a child's body, by its key", parent, "parent", value("kid-1"), true},
		{"a child's topic, by its key", parent, "kid-1", value("kid-1"), true},
		{"no child's body", parent, "parent", value("kid-12"), false},
		{"a child's body, as configured", gateway, "gate", value("child-9"), true},
		{"a child's topic, as configured", gateway, "child-9", value("child-9"), true},
		{"no child's topic", gateway, "a", value("a"), false},
		{"a token for all", sender, "a", value("a"), true},
		{"a token for all, no topic", sender, "", value("b"), true},
		{"a token for all is no gateway", sender, "a", value("b"), false},
		{"a token to read", reader, "a", value("a"), false},
		{"no key", "", "a", value("a"), false},
		{"a wrong key", "mr_000000000000_x", "a", value("a"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := "/v1/messages"
			if c.topic != "" {
				path = "/v1/devices/" + c.topic + "/messages"
			}
			before := len(r.values())
			if status := r.post(c.secret, path, c.body); (status == http.StatusAccepted) != c.ok || !c.ok && status != 401 && status != 403 {
				t.Errorf("HTTP %d, want taken: %v", status, c.ok)
			}
			for _, version := range []mqtt.Version{mqtt.Version311, mqtt.Version5} {
				if c.topic == "" {
					continue
				}
				o := mqtt.ClientOptions{Addr: r.addrs["mqtt"], Username: "u", Password: []byte(c.secret), Version: version}
				client, err := mqtt.Dial(t.Context(), o)
				if err == nil {
					err = client.Publish(t.Context(), "devices/"+c.topic+"/messages/events/", []byte(c.body), 1)
					_ = client.Close()
					<-client.Done()
				}
				// MQTT 3.1.1 cannot refuse: it closes, or dead-letters a body and acknowledges it.
				if c.ok && err != nil || !c.ok && err == nil && version == mqtt.Version5 {
					t.Errorf("MQTT %v: %v, want taken: %v", version, err, c.ok)
				}
				o.Will = &mqtt.Will{Topic: "devices/" + c.topic + "/channels/gone", Payload: []byte("1")}
				client, err = mqtt.Dial(t.Context(), o)
				if err == nil {
					_ = client.Disconnect(t.Context())
					<-client.Done()
				}
				if mayTopic := !strings.Contains(c.name, "topic") && c.name != "a token to read" && !strings.HasSuffix(c.name, " key") || c.ok; mayTopic != (err == nil) {
					t.Errorf("MQTT %v: will: %v, want taken: %v", version, err, mayTopic)
				}
			}
			if got := len(r.values()); !c.ok && got != before {
				t.Errorf("%d more records, want none", got-before)
			}
		})
	}
}

func TestAConnectionEndsWithItsCredential(t *testing.T) {
	r := start(t, setup{keys: true})
	secret, made := r.key(access.Request{Device: "a"})
	soon := time.Now().Add(1500 * time.Millisecond)
	short, _ := r.key(access.Request{Device: "b", Expires: &soon})
	other, _ := r.key(access.Request{Device: "c"})
	r.authenticated(other)
	login := func(secret string) mqtt.Connect {
		return mqtt.Connect{ClientID: "x", Username: "u", Password: []byte(secret)}
	}
	expiring := r.raw(mqtt.Version5)
	expiring.connect(login(short))
	revoked := r.raw(mqtt.Version5)
	revoked.connect(login(secret))
	stays := r.raw(mqtt.Version5)
	stays.connect(login(other))
	began := time.Now()
	if err := access.Revoke(r.access, made.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	revoked.ended(mqtt.ReasonNotAuthorized)
	if took := time.Since(began); took > time.Second {
		t.Errorf("cut after %v, want a second", took)
	}
	expiring.ended(mqtt.ReasonNotAuthorized)
	stays.send(mqtt.AppendPingreq(nil), nil)
	if p := stays.next(); p.Type != mqtt.TypePingresp {
		t.Errorf("%v, want PINGRESP", p.Type)
	}
	again := r.raw(mqtt.Version5)
	if a := again.connect(login(secret)); a.Reason != mqtt.ReasonBadUserNameOrPassword {
		t.Errorf("%v, want bad user name or password", a.Reason)
	}
	old := r.raw(mqtt.Version311)
	if a := old.connect(mqtt.Connect{ClientID: "x", CleanStart: true}); a.Reason != mqtt.ReasonBadUserNameOrPassword {
		t.Errorf("%v, want bad user name or password", a.Reason)
	}
}

func TestAClientIDIsBoundToItsCredential(t *testing.T) {
	r := start(t, setup{keys: true})
	a, _ := r.key(access.Request{Device: "a"})
	b, _ := r.key(access.Request{Device: "b"})
	r.authenticated(b)
	connect := func(secret string) *raw {
		w := r.raw(mqtt.Version5)
		if got := w.connect(mqtt.Connect{ClientID: "same", Username: "u", Password: []byte(secret)}); got.Reason != 0 {
			t.Fatal(got.Reason)
		}
		return w
	}
	first := connect(a)
	connect(b) // does not evict the first
	first.send(mqtt.AppendPingreq(nil), nil)
	if p := first.next(); p.Type != mqtt.TypePingresp {
		t.Fatalf("%v, want PINGRESP", p.Type)
	}
	connect(a) // does
	first.ended(mqtt.ReasonSessionTakenOver)
}

func TestRunRefusesAnOpenListenerOnlyWhereAskedTo(t *testing.T) {
	cfg := ingest.DefaultConfig()
	cfg.MQTT.Addr = "0.0.0.0:1883"
	var refused bool
	for _, l := range cfg.Listeners() {
		refused = refused || access.CheckListener(l, false, false) != nil
	}
	if !refused {
		t.Error("a listener beyond loopback without keys passes")
	}
	if err := errors.Join(access.CheckListener(cfg.Listeners()[2], false, false)); err != nil {
		t.Error(err)
	}
}
