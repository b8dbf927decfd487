package demo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

type zone struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	State string `json:"state"` // open or closed
}

type partition struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	State string `json:"state"` // unset, set or alarm
	Zones []zone `json:"zones"`
}

type panelStatus struct {
	Name       string      `json:"Name"`
	Partitions []partition `json:"Partitions"`
}

// panel is an alarm panel's gateway: the state of its partitions and zones as one JSON channel, and its own log.
func panel(r *rand.Rand) device {
	const id, deviceType = "homecontroller", "RaspberryPiGateway_v1"
	status := panelStatus{Name: "Secvest", Partitions: []partition{
		{"1", "House", "unset", []zone{{"201", "Front door", "closed"}, {"202", "Terrace", "closed"}, {"203", "Hall motion", "closed"}}},
		{"2", "Garage", "set", []zone{{"301", "Gate", "closed"}, {"302", "Side door", "closed"}}},
	}}
	return device{id: id, every: 2 * time.Second, say: func(now time.Time, n int) []publication {
		stepPanel(r, &status, n)
		out := []publication{channelMessage(id, deviceType, "json", "status@secvest", string(encode(status)), now)}
		if n%3 == 0 {
			out = append(out, logMessage(id, deviceType, "Debug", "EverySecondTimerCallback started", now))
		}
		switch {
		case n > 0 && n%45 == 0: // the known misspelling of real gateways
			out = append(out, logMessage(id, deviceType, "Critial", "Panel does not answer on its serial line", now))
		case oneIn(r, 25): // a gateway that was cut off amid its message
			out = append(out, publication{eventsTopic(id), []byte(`{"MessageType":"Channel","DeviceId":"homecontroller","ChannelKey":"status@sec`)})
		case oneIn(r, 12):
			out = append(out, logMessage(id, deviceType, "Warning", "Zone 203 is slow to answer", now))
		}
		return out
	}}
}

// stepPanel moves zones by chance; the garage partition is in alarm for a while when its gate opens.
func stepPanel(r *rand.Rand, status *panelStatus, n int) {
	for p := range status.Partitions {
		part := &status.Partitions[p]
		for z := range part.Zones {
			if oneIn(r, 15) {
				part.Zones[z].State = flip(part.Zones[z].State, "open", "closed")
			}
		}
	}
	garage := &status.Partitions[1]
	switch n % 60 {
	case 10:
		garage.State = "alarm"
	case 18:
		garage.State = "set"
	}
}

func flip(now, a, b string) string {
	if now == a {
		return b
	}
	return a
}

// window is a battery-driven contact that publishes bare values, on change and now and then.
func window(room string, r *rand.Rand) device {
	id := "window-" + room
	state, battery := "closed", 80+20*r.Float64()
	return device{id: id, every: 3 * time.Second, say: func(_ time.Time, n int) []publication {
		if oneIn(r, 20) {
			state = flip(state, "open", "closed")
		}
		out := []publication{{channelTopic(id, "window"), []byte(state)}}
		if n%10 == 0 {
			battery = math.Max(1, battery-0.01)
			out = append(out, publication{channelTopic(id, "battery"), strconv.AppendFloat(nil, battery, 'f', 1, 64)})
		}
		return out
	}}
}

// wind is a sensor on the roof that gusts now and then and sometimes delivers what it had kept while offline.
func wind(r *rand.Rand) device {
	const id, deviceType = "wind-roof", "WindSensor_v1"
	speed, direction := 6.0, 220.0
	return device{id: id, every: time.Second, say: func(now time.Time, n int) []publication {
		speed = math.Max(0, speed+r.NormFloat64()*0.8+(6-speed)*0.1)
		direction = math.Mod(direction+r.NormFloat64()*5+360, 360)
		gust := speed
		if n%90 > 70 && n%90 < 78 {
			gust = speed + 18
		}
		out := []publication{
			channelMessage(id, deviceType, "number", "wind_speed", strconv.FormatFloat(gust, 'f', 2, 64), now),
			channelMessage(id, deviceType, "number", "wind_direction", strconv.FormatFloat(direction, 'f', 0, 64), now),
		}
		if oneIn(r, 30) {
			late := now.Add(-time.Duration(45+r.IntN(60)) * time.Second)
			out = append(out, channelMessage(id, deviceType, "number", "wind_speed", strconv.FormatFloat(speed, 'f', 2, 64), late))
		}
		return out
	}}
}

// powerSwitch is a plug that measures what its heater takes, as a SenML pack.
func powerSwitch(r *rand.Rand) device {
	const id = "switch-heater"
	on := true
	return device{id: id, every: time.Second, say: func(now time.Time, _ int) []publication {
		if oneIn(r, 25) {
			on = !on
		}
		watts := 0.4 + r.Float64()*0.2
		if on {
			watts = 1480 + r.NormFloat64()*15
		}
		pack := fmt.Sprintf(`[{"bn":"%s/","bt":%.3f,"n":"switch","vb":%t},{"n":"power","u":"W","v":%.1f}]`,
			id, float64(now.UnixMilli())/1000, on, watts)
		return []publication{{eventsTopic(id), []byte(pack)}}
	}}
}

// camera reports motion and its frame rate, and writes a log.
func camera(id string, r *rand.Rand) device {
	const deviceType = "Camera_v3"
	motion := false
	return device{id: id, every: 2 * time.Second, say: func(now time.Time, n int) []publication {
		if oneIn(r, 10) {
			motion = !motion
		}
		out := []publication{
			channelMessage(id, deviceType, "boolean", "motion", strconv.FormatBool(motion), now),
			channelMessage(id, deviceType, "number", "fps", strconv.FormatFloat(25+r.NormFloat64()*0.3, 'f', 1, 64), now),
		}
		switch {
		case n > 0 && n%70 == 0 && id == "camera-yard":
			out = append(out, logMessage(id, deviceType, "Critical", "Storage is full, recording has stopped", now))
		case n%8 == 0:
			out = append(out, logMessage(id, deviceType, "Info", "Keyframe interval adjusted to 2 s", now))
		}
		return out
	}}
}
