package powerloss_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/test/torture/powerloss"
)

// whatIsLeft runs this test binary as the program that does what script says in a directory, takes away what it did not sync, and
// returns its files.
func whatIsLeft(t *testing.T, script string, before map[string]string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range before {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := powerloss.Start([]string{self, "-test.run=^TestProgram$"}, append(os.Environ(), "POWERLOSS_SCRIPT="+script, "POWERLOSS_DIR="+dir), dir, os.Stderr)
	if errors.Is(err, powerloss.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if state, err := r.Wait(); err != nil || !state.Success() {
		t.Fatalf("%v, %v", state, err)
	}
	if _, err := r.Lose(); err != nil {
		t.Fatal(err)
	}
	left := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		left[e.Name()] = string(text)
	}
	return left
}

// scripts are what a program may do to its files.
func scripts() map[string]func(open func(name string, flags int) *os.File) {
	return map[string]func(open func(name string, flags int) *os.File){
		"written, never synced": func(open func(string, int) *os.File) {
			_, _ = open("a", os.O_CREATE).WriteString("hello")
		},
		"synced, then more": func(open func(string, int) *os.File) {
			f := open("a", os.O_CREATE)
			_, _ = f.WriteString("hello")
			_ = f.Sync()
			_, _ = f.WriteString(" world")
		},
		"written over": func(open func(string, int) *os.File) {
			f := open("a", 0)
			_, _ = f.WriteAt([]byte("XX"), 1)
			_, _ = f.WriteAt([]byte("YYYYYY"), 2)
		},
		"appended": func(open func(string, int) *os.File) {
			_, _ = open("a", os.O_APPEND).WriteString(" world")
		},
		"opened to sync each write": func(open func(string, int) *os.File) {
			_, _ = open("a", os.O_CREATE|os.O_SYNC).WriteString("hello")
		},
		"renamed": func(open func(string, int) *os.File) {
			f := open("new", os.O_CREATE)
			_, _ = f.WriteString("synced")
			_ = f.Sync()
			_, _ = f.WriteString(" and not")
			_ = os.Rename(f.Name(), filepath.Join(filepath.Dir(f.Name()), "a"))
		},
		"emptied and written again": func(open func(string, int) *os.File) {
			_, _ = open("a", os.O_TRUNC).WriteString("new")
		},
	}
}

// TestProgram is not a test but the program that the others run.
func TestProgram(*testing.T) {
	dir := os.Getenv("POWERLOSS_DIR")
	if dir == "" {
		return
	}
	scripts()[os.Getenv("POWERLOSS_SCRIPT")](func(name string, flags int) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|flags, 0o600)
		if err != nil {
			panic(err)
		}
		return f
	})
}

func TestOnlyWhatWasSyncedIsLeft(t *testing.T) {
	for script, want := range map[string]string{
		"written, never synced":     "",
		"synced, then more":         "hello",
		"written over":              "before",
		"appended":                  "before",
		"opened to sync each write": "hello",
		"renamed":                   "synced",
		"emptied and written again": "",
	} {
		t.Run(script, func(t *testing.T) {
			before := map[string]string{}
			if want == "before" || script == "emptied and written again" {
				before["a"] = "before"
			}
			left := whatIsLeft(t, script, before)
			if len(left) != 1 || left["a"] != want {
				t.Errorf("left %q, want %q in a", left, want)
			}
		})
	}
}
