package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// millrace runs a subcommand against the instance and returns what it printed.
func (in *instance) millrace(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary(t, "millrace"), args...)
	cmd.Env = append(environment(), "MILLRACE_URL="+in.http, "USER=ada")
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err = cmd.Run(); err != nil {
		err = errors.Join(err, errors.New(complaints.String()))
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 2 { // the command line is wrong
		err = errors.Join(err, errForGood)
	}
	return out.String(), err
}

// letterID waits for the one dead letter that filters let through and returns its id.
func (in *instance) letterID(t *testing.T, filters ...string) string {
	t.Helper()
	var id string
	eventually(t, "a dead letter is listed", func() error {
		out, err := in.millrace(t, append([]string{"dead-letters", "list", "--format", "id"}, filters...)...)
		id = strings.TrimSpace(out)
		if err == nil && (id == "" || strings.Contains(id, "\n")) {
			err = errors.New("ids: " + out)
		}
		return err
	})
	return id
}

// TestABrokenMessageIsRepairedAndPutBack sends what is no message over MQTT, looks at its dead letter, and puts it back repaired: it is
// in history once, whatever is asked for again.
func TestABrokenMessageIsRepairedAndPutBack(t *testing.T) {
	in := run(t, t.TempDir())
	c := dial(t, in, "dev1")
	if err := c.Publish(t.Context(), "devices/dev1/messages/events/", []byte(`{"temperature":21.5`), 1); err != nil {
		t.Fatal(err)
	}
	id := in.letterID(t, "--worker", "ingest", "--device", "dev1", "--from", "-1h")
	out, err := in.millrace(t, "dead-letters", "show", id)
	if err != nil || !strings.Contains(out, `{"temperature":21.5`) || !strings.Contains(out, "ingest") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := in.millrace(t, "dead-letters", "replay", id); err == nil || !strings.Contains(err.Error(), "still no message") {
		t.Fatalf("unrepaired: %v: %s", err, out)
	}
	repaired := filepath.Join(t.TempDir(), "repaired.json")
	if err := os.WriteFile(repaired, []byte(`{"temperature":21.5}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := in.millrace(t, "dead-letters", "replay", id, "--payload", repaired, "--dry-run"); err != nil || !strings.Contains(out, "would be put back, to ingested (1 message)") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := in.millrace(t, "dead-letters", "replay", id, "--payload", repaired); err != nil || !strings.Contains(out, "to ingested (1 message)") {
		t.Fatalf("%v: %s", err, out)
	}
	in.wantRows(t, "SELECT device_id, channel_key, value, message_id FROM device_messages WHERE kind = 'channel'",
		[]string{"dev1", "temperature", "21.5", "letter-" + id})
	in.wantRows(t, "SELECT id, replayed_by FROM dead_letters WHERE replayed_at IS NOT NULL", []string{id, "ada"})
	if out, err := in.millrace(t, "dead-letters", "replay", id, "--payload", repaired); err == nil || !strings.Contains(err.Error(), "it was put back at") {
		t.Fatalf("a second time: %v: %s", err, out)
	}
	if out, err := in.millrace(t, "dead-letters", "replay", "--all-matching", "--worker", "ingest"); err != nil || !strings.Contains(out, "nothing to put back") {
		t.Fatalf("%v: %s", err, out)
	}
	in.stop(t)
	again := run(t, in.data)
	again.wantRows(t, "SELECT count(*) FROM device_messages WHERE kind = 'channel'", []string{"1"})
	again.wantRows(t, "SELECT count(*), count(replayed_at) FROM dead_letters", []string{"1", "1"})
}

// TestWhatAWorkerRefusedIsGivenToThatWorkerAlone routes a channel's message to where only logs are kept, and puts it back as a log.
func TestWhatAWorkerRefusedIsGivenToThatWorkerAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "millrace.yaml")
	routes := "router:\n  routes:\n    - {name: channel, condition: kind == \"channel\", endpoints: [logs]}\n"
	if err := os.WriteFile(file, []byte(routes), 0o600); err != nil {
		t.Fatal(err)
	}
	in := run(t, filepath.Join(dir, "data"), "--config", file)
	if code, answer := in.post(t, "/v1/messages", "application/json", `{"DeviceId":"dev1","temperature":21.5}`); code != 202 {
		t.Fatalf("POST: %d %s", code, answer)
	}
	id := in.letterID(t, "--worker", "log-consumer")
	out, err := in.millrace(t, "dead-letters", "show", id)
	if err != nil || !strings.Contains(out, `"channel_key": "temperature"`) || !strings.Contains(out, "want a log") {
		t.Fatalf("%v: %s", err, out)
	}
	repaired := filepath.Join(dir, "repaired.json")
	if err := os.WriteFile(repaired, []byte(`{"DeviceId":"dev1","MessageType":"Log","Severity":"Warning","Message":"it was 21.5"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := in.millrace(t, "dead-letters", "replay", id, "--payload", repaired); err != nil || !strings.Contains(out, "to log-consumer") {
		t.Fatalf("%v: %s", err, out)
	}
	in.wantRows(t, "SELECT device_id, severity, message, origin_position > 0 FROM logs", []string{"dev1", "Warning", "it was 21.5", "true"})
	in.wantRows(t, "SELECT count(*) FROM device_messages", []string{"0"})
	in.wantRows(t, "SELECT count(*), count(replayed_at) FROM dead_letters", []string{"1", "1"})
}
