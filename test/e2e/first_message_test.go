package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

// The two messages of a real gateway, as they come.
const (
	channelMessage = `{"MessageType":"Channel","DeviceId":"homecontroller","DeviceType":"RaspberryPiGateway_v1","ChannelType":"json",
 "ChannelKey":"status@secvest","ChannelValue":"{\"Name\":\"Secvest\",\"Partitions\":[{\"id\":\"1\",\"state\":\"unset\"},{\"id\":\"2\",\"state\":\"set\"}]}",
 "LocalTimestamp":"2017-04-12T17:05:20.4808507Z"}`
	logMessage = `{"MessageType":"Log","DeviceId":"homecontroller","DeviceType":"RaspberryPiGateway_v1",
 "LocalTimestamp":"2017-04-12T17:05:33.1527207Z","Severity":"Debug","Message":"EverySecondTimerCallback started"}`
)

func dial(t *testing.T, in *instance, id string) *mqtt.Client {
	t.Helper()
	c, err := mqtt.Dial(t.Context(), mqtt.ClientOptions{Addr: in.mqtt, ClientID: id, CleanStart: true, Version: mqtt.Version311})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestTheTwoMessagesOfTheDesign sends a gateway's Channel and Log message over MQTT and HTTP and reads them back from
// every table, to the 100 ns that they carry.
func TestTheTwoMessagesOfTheDesign(t *testing.T) {
	in := run(t, t.TempDir())
	c := dial(t, in, "homecontroller")
	const topic = "devices/homecontroller/messages/events/"
	for _, body := range []string{channelMessage, logMessage} {
		if err := c.Publish(t.Context(), topic, []byte(body), 1); err != nil {
			t.Fatal(err)
		}
	}
	later := strings.Replace(channelMessage, "17:05:20.4808507Z", "17:06:20.4808507Z", 1)
	if code, answer := in.post(t, "/v1/messages", "application/json", later); code != http.StatusAccepted {
		t.Fatalf("POST: %d %s", code, answer)
	}

	const panel = " WHERE device_id = 'homecontroller' AND channel_key = 'status@secvest'"
	in.wantRows(t, "SELECT count(*), max(event_time)::VARCHAR FROM device_state"+panel, []string{"1", "2017-04-12 17:06:20.4808507"})
	in.wantRows(t, "SELECT event_time::VARCHAR, kind, device_type, channel_type FROM device_messages"+panel+" ORDER BY event_time",
		[]string{"2017-04-12 17:05:20.4808507", "channel", "RaspberryPiGateway_v1", "json"},
		[]string{"2017-04-12 17:06:20.4808507", "channel", "RaspberryPiGateway_v1", "json"})
	in.wantRows(t, "SELECT json_extract_string(channel_value, '$.Partitions[1].state') FROM device_state"+panel, []string{"set"})
	in.wantRows(t, "SELECT device_id, severity, message, event_time::VARCHAR FROM logs",
		[]string{"homecontroller", "Debug", "EverySecondTimerCallback started", "2017-04-12 17:05:33.1527207"})
	in.stop(t) // a drain closes the segment
	again := run(t, in.data)
	again.wantRows(t, "SELECT count(*) FROM archive"+panel, []string{"2"})
	again.wantRows(t, "SELECT count(*) FROM device_messages"+panel, []string{"2"})
}

// TestADevicesOwnRetryIsHarmless sends the same bytes three times.
func TestADevicesOwnRetryIsHarmless(t *testing.T) {
	in := run(t, t.TempDir())
	for range 3 {
		if code, answer := in.post(t, "/v1/messages", "application/json", channelMessage); code != http.StatusAccepted {
			t.Fatalf("POST: %d %s", code, answer)
		}
	}
	if code, answer := in.post(t, "/v1/messages", "application/json", logMessage); code != http.StatusAccepted {
		t.Fatalf("POST: %d %s", code, answer)
	}
	in.wantRows(t, "SELECT count(*) FROM logs", []string{"1"}) // sent last, so the others have passed the router
	in.wantRows(t, "SELECT count(*) FROM device_messages", []string{"1"})
}

// TestWhatDevicesReallySend is a table of bodies and what becomes of them.
func TestWhatDevicesReallySend(t *testing.T) {
	in := run(t, t.TempDir())
	c := dial(t, in, "gateway")
	for _, p := range []struct{ topic, body string }{
		{"devices/dev1/channels/temperature", "21.5"},
		{"devices/dev1/channels/door", "open"},
		{"devices/dev2/messages/events/MessageType=Channel", "{\n  \"DeviceId\": \"dev2\",\n  \"ChannelKey\": \"level\",\n  \"ChannelValue\": \"21,50\"\n}"},
		{"devices/dev3/messages/events/", `{"Severity":"Critial","Message":"panel lost"}`},
		{"devices/dev4/messages/events/", `[{"bn":"dev4/","n":"power","u":"W","v":12.5}]`},
	} {
		if err := c.Publish(t.Context(), p.topic, []byte(p.body), 1); err != nil {
			t.Fatalf("%s: %v", p.topic, err)
		}
	}
	in.wantRows(t, "SELECT device_id, channel_key, channel_value, value FROM device_state ORDER BY 1, 2",
		[]string{"dev1", "door", "open", ""},
		[]string{"dev1", "temperature", "21.5", "21.5"},
		[]string{"dev2", "level", "21,50", ""},
		[]string{"dev4", "power", "12.5", "12.5"})
	in.wantRows(t, "SELECT device_id, severity, message FROM logs", []string{"dev3", "Critical", "panel lost"})
	in.wantRows(t, "SELECT device_id, state FROM alarms WHERE rule = 'critical-log'", []string{"dev3", "raised"})

	code, answer := in.post(t, "/v1/messages", "application/x-ndjson",
		`{"DeviceId":"dev5","a":1}`+"\n"+`{"DeviceId":"dev5","a":`+"\n"+`{"DeviceId":"dev5","b":2}`+"\n")
	var got struct {
		Accepted int
		Rejected []struct {
			Index int
			Error string
		}
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil || code != http.StatusAccepted {
		t.Fatalf("%d %s: %v", code, answer, err)
	}
	if got.Accepted != 2 || len(got.Rejected) != 1 || got.Rejected[0].Index != 1 || got.Rejected[0].Error == "" {
		t.Errorf("answer %s, want 2 accepted and line 1 rejected", answer)
	}
	in.wantRows(t, "SELECT count(*) FROM dead_letters", []string{"1"})
}

// TestLiveEventsArriveAndResume follows the state stream, loses its connection and misses nothing.
func TestLiveEventsArriveAndResume(t *testing.T) {
	in := run(t, t.TempDir())
	send := func(n int) {
		body := fmt.Sprintf(`{"DeviceId":"dev1","n":%d}`, n)
		if code, answer := in.post(t, "/v1/messages", "application/json", body); code != http.StatusAccepted {
			t.Fatalf("POST: %d %s", code, answer)
		}
	}
	first := subscribe(t, in, "")
	send(1)
	e := first.next(t)
	first.close()
	send(2)
	send(3)
	second := subscribe(t, in, e.id)
	for _, want := range []string{"2", "3"} {
		if e := second.next(t); !strings.Contains(e.data, `"channel_value":"`+want+`"`) {
			t.Fatalf("event %s, want the value %s", e.data, want)
		}
	}
}

// TestASessionShowsInDevices looks at what is known of a device's connection.
func TestASessionShowsInDevices(t *testing.T) {
	in := run(t, t.TempDir())
	c := dial(t, in, "dev1")
	if err := c.Publish(t.Context(), "devices/dev1/channels/a", []byte("1"), 1); err != nil {
		t.Fatal(err)
	}
	in.wantRows(t, "SELECT device_id, connected FROM devices", []string{"dev1", "true"})
	if err := c.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	in.wantRows(t, "SELECT device_id, connected, last_seen > now()::TIMESTAMP - INTERVAL 10 MINUTE FROM devices",
		[]string{"dev1", "false", "true"})
}
