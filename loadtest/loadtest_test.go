package loadtest

import (
	"encoding/json"
	"os"
	"testing"
	"time"
)

func TestMessageIsAGatewaysJSON(t *testing.T) {
	at := time.Date(2026, 5, 4, 10, 0, 0, 123456789, time.UTC)
	var got map[string]string
	if err := json.Unmarshal(Message(nil, 42, 1007, at), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"DeviceId": "load-00042", "ChannelValue": "7", "LocalTimestamp": "2026-05-04T10:00:00.123456789Z",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

func TestSharesAddUp(t *testing.T) {
	load := Load{Messages: 1003, Connections: 4}
	sum := 0
	for i := range load.Connections {
		s := stream{load: load, number: i}
		sum += s.share()
	}
	if sum != load.Messages {
		t.Errorf("the connections send %d messages, want %d", sum, load.Messages)
	}
}

func TestReadUsageOfThisProcess(t *testing.T) {
	u, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	if u.PeakRSS < 1<<20 {
		t.Errorf("peak memory %d bytes, want at least a mebibyte", u.PeakRSS)
	}
}

func TestQuantile(t *testing.T) {
	sorted := []time.Duration{1, 2, 3, 4, 100}
	if Quantile(sorted, 0.5) != 3 || Quantile(sorted, 1) != 100 || Quantile(nil, 0.5) != 0 {
		t.Errorf("%v %v %v", Quantile(sorted, 0.5), Quantile(sorted, 1), Quantile(nil, 0.5))
	}
}
