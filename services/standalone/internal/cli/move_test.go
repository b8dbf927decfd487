package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/services/standalone/internal/move"
)

func TestAMoveThatCannotCarryEverythingIsRefusedWithWords(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		file string
		want string
	}{
		"no file":          {nil, "", "--to: want the configuration file"},
		"another source":   {[]string{"--from", "kafka"}, "", `--from "kafka": want embedded`},
		"the same log":     {nil, "stores: {alarms: postgres}\n", "is embedded: what is moved belongs to a log that ends here"},
		"other partitions": {nil, "bus: {url: nats://h:4222, partitions: 8}\nstores: {alarms: postgres}\n", "the instance has 4 and"},
		"no other stores":  {nil, "bus: {url: nats://h:4222}\n", "all of them are embedded"},
		"a log elsewhere":  {[]string{"--set", "bus.url=nats://h:4222"}, "bus: {url: nats://h:4222}\nstores: {alarms: postgres}\n", "want embedded: a log elsewhere"},
		"a faulty file":    {nil, "stores: {alarms: paper}\n", "stores.alarms"},
	} {
		args := append([]string{"move"}, c.args...)
		if c.file != "" {
			file := filepath.Join(t.TempDir(), "to.yml")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--to", file)
		}
		if _, _, err := shell(t, nil, "", args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAMoveEndsInPassOrNamesWhatDiffers(t *testing.T) {
	var out strings.Builder
	if err := report(&out, move.Result{Rows: 7, Stays: []string{"logs"}}); err != nil || !strings.Contains(out.String(), "PASS: 7 rows are equal") ||
		!strings.Contains(out.String(), "logs: not moved") {
		t.Errorf("%v, %s", err, out.String())
	}
	out.Reset()
	err := report(&out, move.Result{Differences: []string{"logs 2026-03-01: 1 rows in the target, 2 in the source"}})
	if err == nil || errors.Is(err, ErrUsage) || !strings.Contains(out.String(), "FAIL\n  logs 2026-03-01") {
		t.Errorf("%v, %s", err, out.String())
	}
}
