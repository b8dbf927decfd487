package enginetest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/enginetest"
)

// engines writes a file of engines whose control command keeps what it was told, and returns where.
func engines(t *testing.T, json string) (told string) {
	t.Helper()
	dir := t.TempDir()
	told = filepath.Join(dir, "told")
	script := filepath.Join(dir, "control")
	write(t, script, "#!/bin/sh\necho \"$@\" >>\""+told+"\"\n", 0o700)
	file := filepath.Join(dir, "engines.json")
	write(t, file, strings.ReplaceAll(json, "CONTROL", script), 0o600)
	t.Setenv(enginetest.Variable, file)
	return told
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestATestGetsItsEngineAndTheEngineDoesWhatItIsTold(t *testing.T) {
	told := engines(t, `{"control":["CONTROL","--dir","/d"],"engines":{
		"kafka":{"url":"kafka://h:1,h:2","nodes":"2","ca":"/ca.pem"}}}`)
	t.Run("test", func(t *testing.T) {
		e := enginetest.Need(t, "kafka")
		if e.URL != "kafka://h:1,h:2" || e.Get("ca") != "/ca.pem" || e.Get("user") != "" || e.Nodes() != 2 {
			t.Errorf("got %+v", e)
		}
		e.Kill(t, 2)
		e.Start(t, 2)
		e.Pause(t, 1)
		e.Resume(t, 1)
	})
	got, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"--dir /d kill kafka 2", "--dir /d start kafka 2", "--dir /d pause kafka 1", "--dir /d resume kafka 1",
		// What the test may have left undone is done when it ends.
		"--dir /d resume kafka 1", "--dir /d start kafka 2",
	}
	if lines := strings.Split(strings.TrimSpace(string(got)), "\n"); !slices.Equal(lines, want) {
		t.Errorf("the control command was told\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestATestIsSkippedWhereThereIsNoEngine(t *testing.T) {
	for _, c := range []struct{ name, json string }{
		{"no file is named", ""},
		{"the machine cannot have it", `{"control":[],"engines":{},"missing":{"kafka":"not to be had here: mvn"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.json == "" {
				t.Setenv(enginetest.Variable, "")
			} else {
				engines(t, c.json)
			}
			skipped := false
			t.Run("needs kafka", func(t *testing.T) {
				defer func() { skipped = t.Skipped() }()
				enginetest.Need(t, "kafka")
			})
			if !skipped {
				t.Error("the test ran")
			}
		})
	}
}

func TestAFileOfEnginesIsReadStrictly(t *testing.T) {
	for _, c := range []struct{ name, json, want string }{
		{"unknown member", `{"control":[],"engine":{}}`, `unknown field "engine"`},
		{"not JSON", `kafka: 1`, "invalid character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "engines.json")
			write(t, path, c.json, 0o600)
			if _, err := enginetest.ReadFile(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	if _, err := enginetest.ReadFile(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}
