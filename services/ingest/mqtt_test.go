package ingest_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/mqtt"
)

const panel = `{"MessageType":"Channel","DeviceId":"homecontroller","DeviceType":"RaspberryPiGateway_v1","ChannelType":"json",` +
	`"ChannelKey":"status@secvest","ChannelValue":"{\"Name\":\"Secvest\"}","LocalTimestamp":"2017-04-12T17:05:20.4808507Z"}`

func TestAMessageOfEachQoSIsIngested(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.Version311, mqtt.Version5} {
		t.Run(version.String(), func(t *testing.T) {
			r := start(t, setup{})
			c := r.dial(mqtt.ClientOptions{Version: version, CleanStart: true})
			for qos := range byte(3) {
				err := c.Publish(t.Context(), "devices/homecontroller/messages/events/", []byte(strings.Replace(panel, "080", strconv.Itoa(int(qos)), 1)), qos)
				if err != nil {
					t.Fatalf("QoS %d: %v", qos, err)
				}
			}
			if err := c.Publish(t.Context(), "devices/dev1/channels/temperature", []byte("21.5"), 1); err != nil {
				t.Fatal(err)
			}
			if err := c.Disconnect(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := r.values()
			slices.Sort(got)
			want := []string{"dev1/temperature=21.5"}
			for range 3 {
				want = append(want, `homecontroller/status@secvest={"Name":"Secvest"}`)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestPipelinedMessagesAreAcknowledgedInOrderAcrossPartitions(t *testing.T) {
	const n = 10_000
	r := start(t, setup{})
	c := r.dial(mqtt.ClientOptions{MaxInflight: 5000})
	var mu sync.Mutex
	var acked []int
	for i := range n {
		topic := fmt.Sprintf("devices/dev%d/channels/n", i%17) // of all partitions
		err := c.PublishAsync(topic, []byte(strconv.Itoa(i)), 1, nil, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			acked = append(acked, i)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acked) == n
	})
	if !slices.IsSorted(acked) || len(acked) != n {
		t.Errorf("%d acknowledgements, in order: %v; want %d in order", len(acked), slices.IsSorted(acked), n)
	}
	if got := len(r.records(bus.Ingested)); got != n {
		t.Errorf("%d records, want %d", got, n)
	}
}

func TestWhatCannotBeTakenIsRefusedOrDeadLettered(t *testing.T) {
	for _, c := range []struct {
		name, topic, body string
		version           mqtt.Version
		code              mqtt.Reason // 0: acknowledged
		letter            string      // part of the reason; "" for none
	}{
		{"unknown topic, 5", "elsewhere", "1", mqtt.Version5, mqtt.ReasonTopicNameInvalid, ""},
		{"unknown topic, 3.1.1", "elsewhere", "1", mqtt.Version311, 0, "unknown topic"},
		{"no JSON, 5", "devices/d/messages/events/", "{", mqtt.Version5, mqtt.ReasonPayloadFormatInvalid, ""},
		{"no JSON, 3.1.1", "devices/d/messages/events/", "{", mqtt.Version311, 0, "not valid JSON"},
		{"another device, 5", "devices/d/messages/events/", panel, mqtt.Version5, mqtt.ReasonNotAuthorized, "homecontroller"},
		{"another device, 3.1.1", "devices/d/messages/events/", panel, mqtt.Version311, 0, "homecontroller"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, setup{})
			client := r.dial(mqtt.ClientOptions{Version: c.version})
			err := client.Publish(t.Context(), c.topic, []byte(c.body), 1)
			refused, _ := errors.AsType[*mqtt.Refused](err)
			if c.code == 0 && err != nil || c.code != 0 && (refused == nil || refused.Code != c.code) {
				t.Errorf("%v, want %v", err, c.code)
			}
			letters := r.letters()
			if want := c.version == mqtt.Version311 || c.letter != "" || c.code == mqtt.ReasonPayloadFormatInvalid; want != (len(letters) == 1) {
				t.Fatalf("dead letters: %v, want one: %v", letters, want)
			}
			if len(letters) > 0 && (string(letters[0].Payload) != c.body || !strings.Contains(letters[0].Reason, c.letter) || letters[0].Worker != "ingest") {
				t.Errorf("dead letter %+v", letters[0])
			}
			if got := r.values(); len(got) > 0 {
				t.Errorf("ingested: %q", got)
			}
		})
	}
}
