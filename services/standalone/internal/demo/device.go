package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// publication is one MQTT publish of a simulated device.
type publication struct {
	topic   string
	payload []byte
}

// device is one simulated device. It is used by one goroutine.
type device struct {
	id    string
	every time.Duration // how often say is asked
	// say returns what the device publishes at now, the n-th time that it is asked (from 0).
	say func(now time.Time, n int) []publication
}

// fleet returns the demo's devices; chance seeds each one's own source, so that a run can be repeated.
func fleet(seed uint64) []device {
	chance := func(i uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, i)) } //nolint:gosec // a simulation, not a secret
	devices := []device{
		panel(chance(1)), wind(chance(2)), powerSwitch(chance(3)),
		camera("camera-door", chance(4)), camera("camera-yard", chance(5)),
	}
	for i, room := range []string{"livingroom", "kitchen", "bedroom"} {
		devices = append(devices, window(room, chance(10+uint64(i))))
	}
	for i := range 3 {
		devices = append(devices, thermostat(i+1, chance(20+uint64(i))))
	}
	return devices
}

// stamp formats t as the gateways do: to 100 ns, in UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func eventsTopic(id string) string           { return "devices/" + id + "/messages/events/" }
func channelTopic(id, channel string) string { return "devices/" + id + "/channels/" + channel }

// channelMessage is the Channel JSON of a gateway; value is sent as a string, as real gateways do.
func channelMessage(id, deviceType, channelType, key, value string, now time.Time) publication {
	return publication{eventsTopic(id), encode(map[string]any{
		"MessageType": "Channel", "DeviceId": id, "DeviceType": deviceType,
		"ChannelType": channelType, "ChannelKey": key, "ChannelValue": value, "LocalTimestamp": stamp(now),
	})}
}

// logMessage is the Log JSON of a gateway.
func logMessage(id, deviceType, severity, text string, now time.Time) publication {
	return publication{eventsTopic(id), encode(map[string]any{
		"MessageType": "Log", "DeviceId": id, "DeviceType": deviceType,
		"LocalTimestamp": stamp(now), "Severity": severity, "Message": text,
	})}
}

// encode marshals what is marshalable by construction.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Appendf(nil, "%q", err)
	}
	return b
}

// oneIn is true once in n times on average.
func oneIn(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }
