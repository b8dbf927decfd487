package service

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
)

const (
	formatText = "text"
	formatJSON = "json"
)

func newLogger(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case formatText, "":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case formatJSON:
		return slog.New(slog.NewJSONHandler(w, o)), nil
	default:
		return nil, fmt.Errorf("log format %q, want text or json", format)
	}
}

// Version returns the version of the running binary: the module's, else the commit it was built from, else "devel".
func Version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := build.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	settings := make(map[string]string, len(build.Settings))
	for _, s := range build.Settings {
		settings[s.Key] = s.Value
	}
	const shortHash = 12
	commit := settings["vcs.revision"]
	if len(commit) < shortHash {
		return "devel"
	}
	if settings["vcs.modified"] == "true" {
		return commit[:shortHash] + "-modified"
	}
	return commit[:shortHash]
}
