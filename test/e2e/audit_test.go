package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/books"
)

// audit runs `millrace audit` and returns its report and exit code.
func (in *instance) audit(t *testing.T, args ...string) (*books.Report, int) {
	t.Helper()
	out, err := in.millrace(t, append([]string{"audit", "--format", "json"}, args...)...)
	exit, failed := errors.AsType[*exec.ExitError](err)
	report := &books.Report{}
	if unread := json.Unmarshal([]byte(out), report); unread != nil || err != nil && !failed {
		t.Fatalf("millrace audit: %v: %s %v", unread, out, err)
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
	in, devices := sendThroughKills(t, "books", 6, time.Millisecond, kills, func() int { return 6000 })
	in.post(t, "/v1/devices/books-0/messages", "application/json", "{broken")
	var report *books.Report
	eventually(t, "everything has arrived", func() error {
		var code int
		report, code = in.audit(t, "--from", "-1h", "--to", "-0s")
		if code != 0 || !report.Balanced {
			t.Fatalf("exit code %d: %+v", code, report.Breaches)
		}
		if report.Total.EdgeLetters == 0 {
			return errors.New("the letter of the edge is not counted yet")
		}
		return onTheWay(report)
	})
	checkBooks(t, in, report, devices)
	in.stop(t)
}

// onTheWay returns an error while a report does not find everything in the stores yet.
func onTheWay(r *books.Report) error {
	left := r.Total.Unread + r.Total.LettersMissing
	for _, s := range r.Total.Stores {
		left += s.OnTheWay
	}
	if left > 0 {
		return fmt.Errorf("%d are on the way: %+v", left, r.Total)
	}
	return nil
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
