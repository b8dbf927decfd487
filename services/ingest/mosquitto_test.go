package ingest_test

import (
	"bufio"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

// mosquitto runs one of Mosquitto's clients, an implementation of the protocol that is not ours.
func mosquitto(t *testing.T, r *rig, name string, args ...string) *exec.Cmd {
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
			cmd := mosquitto(t, r, "mosquitto_pub", "-V", version, "-q", qos, "-r", "-t", "devices/dev1/channels/temperature", "-m", value,
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
		cmd := mosquitto(t, r, "mosquitto_sub", "-V", version, "-q", "1", "-t", "live/state/+/+", "-C", "3", "-F", "%t", "-d")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "SUBACK") {
				for _, channel := range []string{"x", "y", "z"} {
					r.happens("a", channel, "1")
				}
			}
			if strings.HasPrefix(lines.Text(), "live/") {
				got = append(got, lines.Text())
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if want := []string{"live/state/a/x", "live/state/a/y", "live/state/a/z"}; !slices.Equal(got, want) {
			t.Errorf("version %s: %q, want %q", version, got, want)
		}
	}
}
