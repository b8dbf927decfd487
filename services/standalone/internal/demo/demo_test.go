package demo

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestFleetShowsEverything holds the demo to what it is for: each sort of message, and each sort of trouble, turns up
// within five simulated minutes.
func TestFleetShowsEverything(t *testing.T) {
	begin := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	seen := map[string]int{}
	for _, d := range fleet(7) {
		silent := 0
		for n := range int(5 * time.Minute / d.every) {
			now := begin.Add(time.Duration(n) * d.every)
			said := d.say(now, n)
			if len(said) == 0 {
				silent++
			}
			for _, p := range said {
				if !strings.HasPrefix(p.topic, "devices/"+d.id+"/") {
					t.Fatalf("%s publishes to %s", d.id, p.topic)
				}
				classify(seen, p, now)
			}
		}
		if time.Duration(silent)*d.every >= time.Minute {
			seen["silent"]++
		}
	}
	for _, want := range []string{"channel", "log", "critical", "bare", "json", "senml", "late", "malformed", "silent", "alarm"} {
		if seen[want] == 0 {
			t.Errorf("no %s message in five minutes: %v", want, seen)
		}
	}
}

func classify(seen map[string]int, p publication, now time.Time) {
	if strings.Contains(p.topic, "/channels/") {
		seen["bare"]++
		return
	}
	if !json.Valid(p.payload) {
		seen["malformed"]++
		return
	}
	if p.payload[0] == '[' {
		seen["senml"]++
		return
	}
	var f struct {
		MessageType, Severity, ChannelValue string
		LocalTimestamp                      time.Time
	}
	if json.Unmarshal(p.payload, &f) != nil || f.MessageType == "" {
		seen["json"]++
		return
	}
	seen[strings.ToLower(f.MessageType)]++
	if strings.HasPrefix(f.Severity, "Crit") {
		seen["critical"]++
	}
	if now.Sub(f.LocalTimestamp) > 30*time.Second {
		seen["late"]++
	}
	if strings.Contains(f.ChannelValue, `"alarm"`) {
		seen["alarm"]++
	}
}

// TestFleetRepeats shows that a seed is enough to say the same again.
func TestFleetRepeats(t *testing.T) {
	say := func() []byte {
		var all bytes.Buffer
		for _, d := range fleet(42) {
			for n := range 50 {
				for _, p := range d.say(time.Unix(int64(1_700_000_000+n), 0), n) {
					all.WriteString(p.topic)
					all.Write(p.payload)
				}
			}
		}
		return all.Bytes()
	}
	if !bytes.Equal(say(), say()) {
		t.Error("the same seed says different things")
	}
}
