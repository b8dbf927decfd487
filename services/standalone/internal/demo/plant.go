package demo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// thermostat is a laboratory's, around 37 °C, as flat JSON. The second one overshoots now and then; the third falls silent.
func thermostat(number int, r *rand.Rand) device {
	id := fmt.Sprintf("thermostat-%d", number)
	temperature, setpoint := 37+r.NormFloat64()*0.1, 37.0
	return device{id: id, every: time.Second, say: func(now time.Time, n int) []publication {
		if number == 3 && n%180 >= 60 && n%180 < 150 {
			return nil // its network cable is loose
		}
		target := setpoint
		if number == 2 && n%120 >= 30 && n%120 < 60 {
			target = 40.5
		}
		temperature += (target-temperature)*0.15 + r.NormFloat64()*0.05
		body := encode(map[string]any{
			"deviceType":  "LabThermostat_v4",
			"temperature": math.Round(temperature*100) / 100,
			"setpoint":    setpoint,
			"heating":     temperature < target,
			"timestamp":   now.UTC().Format(time.RFC3339Nano),
		})
		return []publication{{eventsTopic(id), body}}
	}}
}
