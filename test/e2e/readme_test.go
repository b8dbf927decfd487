package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// commandTimeout is for one command of the README, on a busy machine.
const commandTimeout = time.Minute

// TestTheCommandsOfTheReadmeWork runs the commands of README.md as they stand there, line by line, in a folder that looks like a
// fresh clone after `make build`, beside `millrace run --demo` on its usual ports.
func TestTheCommandsOfTheReadmeWork(t *testing.T) {
	// These three are what runs this test.
	others := map[string]bool{"make run": true, "make test": true, "make build": true}
	clone := fakeClone(t)
	usual(t, clone)
	ran := 0
	for _, block := range shellBlock.FindAllStringSubmatch(page(t, "README.md"), -1) {
		for command := range strings.Lines(block[1]) {
			command = strings.TrimSpace(command)
			if command == "" || others[command] {
				continue
			}
			ran++
			program, _, _ := strings.Cut(command, " ")
			if _, err := exec.LookPath(filepath.Join(clone, program)); err != nil {
				if _, err := exec.LookPath(program); err != nil {
					t.Logf("not run, since there is no %s here: %s", program, command)
					continue
				}
			}
			output := shell(t, clone, command)
			if output == "" && program != "mosquitto_pub" { // which is silent where all is well
				t.Errorf("%s printed nothing", command)
			}
		}
	}
	if ran < 8 {
		t.Errorf("README.md has %d commands, want more: are its blocks still marked sh?", ran)
	}
	in := &instance{http: "http://127.0.0.1:8080"}
	in.wantRows(t, "SELECT channel_value FROM device_state WHERE device_id = 'dev1' AND channel_key = 'door'", []string{"open"})
}

// shell runs one command and returns what it printed.
func shell(t *testing.T, dir, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	run := exec.CommandContext(ctx, "bash", "-c", command) //nolint:gosec // it stands in README.md
	run.Dir = dir
	output, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", command, err, output)
	}
	return strings.TrimSpace(string(output))
}

// fakeClone is a folder with bin and deploy.
func fakeClone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs(filepath.Dir(binary(t, "millrace")))
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"bin": bin, "deploy": deploy} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// usual runs the demo on the ports that the README names, and skips the test where somebody else has them.
func usual(t *testing.T, dir string) {
	t.Helper()
	for _, addr := range []string{"127.0.0.1:8080", "127.0.0.1:1883", "127.0.0.1:4222"} {
		ln, err := net.Listen("tcp", addr) //nolint:noctx // closed at once
		if err != nil {
			t.Skipf("the README's commands need %s, which somebody else has: %v", addr, err)
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p := startIn(t, dir, "millrace", nil, "run", "--demo")
	eventually(t, "the demo is ready", func() error {
		select {
		case <-p.exited:
			t.Fatalf("millrace run --demo ended: %v\n%s", p.err, p.output.tail(5000))
		default:
		}
		return ready("http://127.0.0.1:8080")
	})
}
