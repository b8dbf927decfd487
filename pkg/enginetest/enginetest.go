// Package enginetest gives a test a real engine (Kafka, ClickHouse, …): where it is, and a hand on its processes.
//
// `make engines` starts the engines and writes a file that says where they are; the variable MILLRACE_ENGINES names that
// file. A test that calls Need runs where the variable is set and is skipped elsewhere, so that `go test` needs nothing
// but Go. The packages under test share one set of engines and run side by side: a test makes its own names (topics,
// databases, indices, buckets) and removes them. A test that kills, pauses or restarts an engine is named TestKill…, and
// `make test-engines` runs those one after the other, when nobody else uses the engines.
package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Variable is the environment variable that names the engines' file.
const Variable = "MILLRACE_ENGINES"

const (
	// controlTimeout is how long a node may take to do what it is told; a start waits until the node answers.
	controlTimeout = 7 * time.Minute
	// fileBytesMax is more than any file of engines has.
	fileBytesMax = 1 << 20
)

// File is what MILLRACE_ENGINES names, as JSON.
type File struct {
	// Control is the command that takes "kill|start|pause|resume ENGINE NODE"; absolute, since tests run anywhere.
	Control []string `json:"control"`
	// Engines holds each engine's settings by its name; every one has "url".
	Engines map[string]map[string]string `json:"engines"`
	// Missing says why an engine is not there on a machine that lacks a tool for it: its tests are skipped, aloud.
	Missing map[string]string `json:"missing,omitempty"`
}

// Engine is one running engine.
type Engine struct {
	// URL is the main address; its form is the engine's own (see docs/engines/README.md).
	URL string

	name     string
	settings map[string]string
	control  []string
}

// ReadFile reads the file of engines at path. An unknown member is an error.
func ReadFile(path string) (f File, err error) {
	r, err := os.Open(filepath.Clean(path)) //nolint:gosec // the contributor says where
	if err != nil {
		return File{}, fmt.Errorf("read engines: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	dec := json.NewDecoder(io.LimitReader(r, fileBytesMax))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return File{}, fmt.Errorf("read engines: %s: %w", path, err)
	}
	return f, nil
}

// Need returns the engine called name. It skips the test where MILLRACE_ENGINES is unset, or where the file says that the
// machine cannot have this engine; it fails the test when the variable is set and the engine is simply not in the file.
func Need(tb testing.TB, name string) *Engine {
	tb.Helper()
	path := os.Getenv(Variable)
	if path == "" {
		tb.Skipf("%s is not set: start the engines with `make engines`", Variable)
	}
	f, err := ReadFile(path)
	if err != nil {
		tb.Fatalf("%s: %v", Variable, err)
	}
	settings, ok := f.Engines[name]
	if !ok {
		if why, missing := f.Missing[name]; missing {
			tb.Skipf("%s: %s", name, why)
		}
		tb.Fatalf("%s: %s has no engine %q, but %s", Variable, path, name,
			strings.Join(slices.Sorted(maps.Keys(f.Engines)), ", "))
	}
	if settings["url"] == "" {
		tb.Fatalf("%s: %s: engine %q has no url", Variable, path, name)
	}
	return &Engine{URL: settings["url"], name: name, settings: settings, control: f.Control}
}

// Get returns a further setting of the engine ("ca", "user", …), or "" where it has none of that name.
func (e *Engine) Get(key string) string { return e.settings[key] }

// Nodes returns how many nodes the engine has; they are numbered from 1.
func (e *Engine) Nodes() int {
	n, err := strconv.Atoi(e.settings["nodes"])
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// Kill ends a node at once (SIGKILL). The node is started again when the test ends, if the test has not done it.
func (e *Engine) Kill(tb testing.TB, node int) {
	tb.Helper()
	// Registered first, so that a kill that half succeeds is mended too; starting a node that runs does nothing.
	tb.Cleanup(func() { e.command(tb, "start", node) })
	e.command(tb, "kill", node)
}

// Start starts a killed node on its old ports and data, and returns when it answers.
func (e *Engine) Start(tb testing.TB, node int) {
	tb.Helper()
	e.command(tb, "start", node)
}

// Pause stops a node in its tracks (SIGSTOP): its connections stay open and nothing answers, as with a machine that
// hangs. The node is resumed when the test ends, if the test has not done it.
func (e *Engine) Pause(tb testing.TB, node int) {
	tb.Helper()
	tb.Cleanup(func() { e.command(tb, "resume", node) })
	e.command(tb, "pause", node)
}

// Resume lets a paused node go on, and returns when it answers.
func (e *Engine) Resume(tb testing.TB, node int) {
	tb.Helper()
	e.command(tb, "resume", node)
}

func (e *Engine) command(tb testing.TB, verb string, node int) {
	tb.Helper()
	if len(e.control) == 0 {
		tb.Fatalf("%s: the file of engines names no control command, so %s cannot be told to %s", Variable, e.name, verb)
	}
	// Not the test's context: it has ended when a cleanup starts a node again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), controlTimeout)
	defer cancel()
	args := append(slices.Clone(e.control[1:]), verb, e.name, strconv.Itoa(node))
	out, err := exec.CommandContext(ctx, e.control[0], args...).CombinedOutput() //nolint:gosec // the file is the contributor's own
	if err != nil {
		tb.Fatalf("%s %s %d: %v\n%s", verb, e.name, node, err, out)
	}
}
