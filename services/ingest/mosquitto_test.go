package ingest_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

// external runs one of Mosquitto's clients, an implementation of the protocol that is not ours.
func external(t *testing.T, r *rig, name string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(name + " is not installed")
	}
	host, port, _ := strings.Cut(r.addrs["mqtt"], ":")
	return exec.CommandContext(t.Context(), name, append([]string{"-h", host, "-p", port}, args...)...)
}

func TestMosquittoPublishes(t *testing.T) {
	r := start(t, setup{})
	var want []string
	for _, version := range []string{"311", "5"} {
		for _, qos := range []string{"0", "1", "2"} {
			value := version + "." + qos
			cmd := external(t, r, "mosquitto_pub", "-V", version, "-q", qos, "-r", "-t", "devices/dev1/channels/temperature", "-m", value,
				"--will-topic", "devices/dev1/channels/gone", "--will-payload", "x")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("version %s, QoS %s: %v\n%s", version, qos, err, out)
			}
			want = append(want, "dev1/temperature="+value)
		}
	}
	eventually(t, "all are there", func() bool { return len(r.records(bus.Ingested)) >= len(want) })
	got := r.values()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMosquittoSubscribes(t *testing.T) {
	for _, version := range []string{"311", "5"} {
		r := startLive(t, setup{})
		cmd := external(t, r, "mosquitto_sub", "-V", version, "-q", "1", "-t", "live/state/+/+", "-C", "3", "-F", "%t")
		ended := make(chan struct{})
		var out []byte
		var err error
		go func() {
			defer close(ended)
			out, err = cmd.Output()
		}()
		eventually(t, "it has its three messages", func() bool { // it does not say when it has subscribed
			r.happens("a", "x", "1")
			select {
			case <-ended:
				return true
			default:
				return false
			}
		})
		if got, want := string(out), strings.Repeat("live/state/a/x\n", 3); err != nil || got != want {
			t.Errorf("version %s: %q %v, want %q", version, got, err, want)
		}
	}
}
