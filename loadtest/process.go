package loadtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used so far, from Linux's /proc.
type Usage struct {
	CPU     time.Duration // user and system
	PeakRSS int64         // bytes
}

// ReadUsage reads the usage of process pid.
func ReadUsage(pid int) (Usage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat")) //nolint:gosec // a number names the folder
	if err != nil {
		return Usage{}, err
	}
	// Fields 14 and 15 are the ticks in user and kernel mode; the command, field 2, may hold spaces (proc(5)).
	const afterCommand, ticksPerSecond = 2, 100
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(rest))
	const user, system = 14 - 1 - afterCommand, 15 - 1 - afterCommand
	if len(fields) <= system {
		return Usage{}, fmt.Errorf("%s/stat: %d fields", dir, len(fields))
	}
	u, err := strconv.ParseInt(fields[user], 10, 64)
	if err != nil {
		return Usage{}, err
	}
	s, err := strconv.ParseInt(fields[system], 10, 64)
	if err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status")) //nolint:gosec // a number names the folder
	if err != nil {
		return Usage{}, err
	}
	usage := Usage{CPU: time.Duration(u+s) * time.Second / ticksPerSecond}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				return Usage{}, err
			}
			usage.PeakRSS = kib << 10
		}
	}
	return usage, nil
}
