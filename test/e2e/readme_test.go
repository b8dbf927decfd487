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

// TestTheCommandsOfTheReadmeWork runs the commands of README.md, and of the pages about sending and live, as they stand there, line by
// line, in a folder that looks like a fresh clone after `make build`, beside `millrace run --demo` on its usual ports.
func TestTheCommandsOfTheReadmeWork(t *testing.T) {
	clone := fakeClone(t)
	usual(t, clone)
	for _, p := range []struct {
		name  string
		least int
	}{{"README.md", 8}, {"docs/sending.md", 10}, {"docs/live.md", 5}} {
		commands := commandsOf(t, p.name)
		if len(commands) < p.least {
			t.Errorf("%s has %d commands, want more: are its blocks still marked sh?", p.name, len(commands))
		}
		for _, command := range commands {
			program, _, _ := strings.Cut(command, " ")
			if !installed(clone, program) {
				t.Logf("not run, since there is no %s here: %s", program, command)
				continue
			}
			output := shell(t, clone, command)
			if output == "" && program != "mosquitto_pub" { // which is silent where all is well
				t.Errorf("%s printed nothing", command)
			}
			if strings.Contains(output, `"error"`) || strings.Contains(output, "failed:") {
				t.Errorf("%s: %s", command, output)
			}
		}
	}
	in := &instance{http: "http://127.0.0.1:8080"}
	in.wantRows(t, "SELECT channel_value FROM device_state WHERE device_id = 'dev1' AND channel_key = 'door'", []string{"open"})
}

// commandsOf returns the lines of a page's sh blocks, but those that are what runs this test.
func commandsOf(t *testing.T, name string) (commands []string) {
	t.Helper()
	others := map[string]bool{"": true, "make run": true, "make test": true, "make build": true}
	for _, block := range shellBlock.FindAllStringSubmatch(page(t, name), -1) {
		for command := range strings.Lines(block[1]) {
			if command = strings.TrimSpace(command); !others[command] {
				commands = append(commands, command)
			}
		}
	}
	return commands
}

func installed(dir, program string) bool {
	_, inside := exec.LookPath(filepath.Join(dir, program))
	_, outside := exec.LookPath(program)
	return inside == nil || outside == nil
}

// shell runs one command and returns what it printed.
func shell(t *testing.T, dir, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	run := exec.CommandContext(ctx, "bash", "-c", command)
	run.Dir, run.Env = dir, environment()
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
		ln, err := net.Listen("tcp", addr)
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
