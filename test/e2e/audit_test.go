package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/books"
)

// audit runs `millrace audit` and returns its report and exit code.
func (in *instance) audit(t *testing.T, args ...string) (*books.Report, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t, "millrace"), append([]string{"audit", "--url", in.http, "--format", "json"}, args...)...)
	cmd.Env = environment()
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		t.Fatal(err)
	}
	report := &books.Report{}
	if err := json.Unmarshal(out.Bytes(), report); err != nil {
		t.Fatalf("millrace audit: %v: %s %s", err, out.Bytes(), complaints.Bytes())
	}
	if failed {
		return report, exit.ExitCode()
	}
	return report, 0
}

// TestTheBooksBalanceWhateverIsKilled kills the process while devices send and retry. In the end the books balance, tell of every
// acknowledged message and of every repeat, and history has what they say.
func TestTheBooksBalanceWhateverIsKilled(t *testing.T) {
	kills := 5
	if testing.Short() {
		kills = 2
	}
	dir := t.TempDir()
	in := run(t, dir)
	var mu sync.Mutex
	addr := in.mqtt
	address := func() string { mu.Lock(); defer mu.Unlock(); return addr }
	devices := make([]*ledgerDevice, 6)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for i := range devices {
		devices[i] = &ledgerDevice{id: "books-" + strconv.Itoa(i), begin: time.Now().Add(-time.Hour), pace: time.Millisecond}
		all.Go(func() { devices[i].live(ctx, address) })
	}
	for kill := range kills {
		progress := sum(devices)
		eventually(t, fmt.Sprintf("messages are acknowledged before kill %d", kill), func() error {
			if got := sum(devices); got < progress+6000 {
				return fmt.Errorf("%d acknowledged since", got-progress)
			}
			return nil
		})
		in.kill()
		in = run(t, dir)
		mu.Lock()
		addr = in.mqtt
		mu.Unlock()
	}
	stop()
	all.Wait()
	in.post(t, "/v1/devices/books-0/messages", "application/json", "{broken")
	var report *books.Report
	eventually(t, "everything has arrived", func() error {
		var code int
		report, code = in.audit(t, "--from", "-1h", "--to", "-0s")
		if code != 0 || !report.Balanced {
			t.Fatalf("exit code %d: %+v", code, report.Breaches)
		}
		left := report.Total.Unread
		for _, s := range report.Total.Stores {
			left += s.OnTheWay
		}
		if left > 0 || report.Total.LettersMissing > 0 || report.Total.EdgeLetters == 0 {
			return fmt.Errorf("%d are on the way", left)
		}
		return nil
	})
	checkBooks(t, in, report, devices)
	in.stop(t)
}

func checkBooks(t *testing.T, in *instance, report *books.Report, devices []*ledgerDevice) {
	t.Helper()
	if !report.Complete || len(report.Devices) != len(devices) {
		t.Fatalf("%+v", report)
	}
	for i, d := range report.Devices {
		if d.DeviceID != devices[i].id {
			t.Fatalf("device %d is %s", i, d.DeviceID)
		}
		kept := d.Accepted + d.Uncounted - d.Repeats - d.Refused
		if s := d.Stores[0]; s.Stored != kept || s.Expected != kept {
			t.Errorf("%+v: want %d rows", d, kept)
		}
		if kept < int64(devices[i].count()) {
			t.Errorf("%s: the books tell of %d messages, %d were acknowledged to the device", d.DeviceID, kept, devices[i].count())
		}
		in.wantRows(t, fmt.Sprintf("SELECT count(*) FROM device_messages WHERE device_id = '%s'", d.DeviceID), []string{strconv.FormatInt(kept, 10)})
	}
	if report.Total.Accepted == 0 || report.Total.EdgeLetters != 1 {
		t.Errorf("total %+v", report.Total)
	}
	t.Logf("total: %+v", report.Total)
}
