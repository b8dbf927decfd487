package parquet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/store/gather"
	"github.com/millrace/millrace/pkg/telemetry"
)

// maintainLoop runs Maintain every MaintainEvery until ctx ends.
func (h *History) maintainLoop(ctx context.Context) {
	h.watchDisk()
	for gather.Rest(ctx, h.cfg.MaintainEvery) {
		if err := h.Maintain(ctx); err != nil && ctx.Err() == nil {
			h.cfg.Log.Error("history: upkeep of the archive; it is tried again", "error", err)
		}
	}
}

// Maintain does what is due now: it looks at the disk, removes what was replaced and what has outlived Retention, and merges. It runs
// by itself every MaintainEvery; calls wait for each other.
func (h *History) Maintain(ctx context.Context) error {
	h.upkeepMu.Lock()
	defer h.upkeepMu.Unlock()
	h.watchDisk()
	h.renewCopy()
	err := errors.Join(h.expire(), h.removeDoomed(h.cfg.Now()))
	for err == nil && ctx.Err() == nil {
		var more bool
		if more, err = h.mergeNext(ctx); !more {
			break
		}
		err = errors.Join(err, h.removeDoomed(h.cfg.Now()))
	}
	return errors.Join(err, h.scrub(ctx))
}

// mergeNext does one merge or split; more is false where none is due. A file that turns out damaged is set aside.
func (h *History) mergeNext(ctx context.Context) (more bool, err error) {
	h.mu.Lock()
	files, health := h.catalog.current.Files, h.health
	h.mu.Unlock()
	now := telemetry.At(h.cfg.Now())
	if inputs := planSplit(&h.cfg, files, now); inputs != nil && roomFor(inputs, health) {
		err = h.split(ctx, inputs)
		more = true
	} else if inputs := planMerge(&h.cfg, files, now); inputs != nil && roomFor(inputs, health) {
		err = h.merge(ctx, inputs)
		more = true
	}
	if d := (*damagedError)(nil); errors.As(err, &d) {
		return more, h.SetAside(d.path, d.err.Error())
	}
	if err != nil {
		return more, fmt.Errorf("merge: %w", err)
	}
	return more, nil
}

// roomFor reports whether the disk can hold inputs a second time, with as much to spare: a merge must not be what fills it.
func roomFor(inputs []FileInfo, disk Health) bool {
	need := uint64(0)
	for i := range inputs {
		need += 2 * uint64(inputs[i].Bytes) //nolint:gosec // a size
	}
	return disk.Total == 0 || disk.Free > need
}

// expire takes files out of history whose newest event is older than Retention.
func (h *History) expire() error {
	if h.cfg.Retention <= 0 {
		return nil
	}
	oldest := telemetry.At(h.cfg.Now().Add(-h.cfg.Retention))
	old := func(f FileInfo) bool { return f.MaxEvent < oldest }
	h.mu.Lock()
	some := slices.ContainsFunc(h.catalog.current.Files, old)
	h.mu.Unlock()
	if !some {
		return nil
	}
	before, after := 0, 0
	err := h.commit(func(m *manifest) error {
		before = len(m.Files)
		m.Files = slices.DeleteFunc(m.Files, old)
		after = len(m.Files)
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	h.cfg.Log.Info("history: removed what has outlived its retention", "files", before-after, "retention", h.cfg.Retention)
	return nil
}

// HealthLevel says how urgent a Health is.
type HealthLevel string

// The levels, in rising order.
const (
	HealthOK       HealthLevel = "ok"
	HealthWarning  HealthLevel = "warning"
	HealthCritical HealthLevel = "critical"
)

// Health says how long the disk will do.
type Health struct {
	Level       HealthLevel
	Reason      string        // for people; "" where ok
	Free, Total uint64        // bytes of the disk; 0 where not known
	FullIn      time.Duration // at the pace of the last hour; 0 where it is not filling
}

// Status is what can be told of history in a line.
type Status struct {
	Files       int
	FileRows    int64
	FileBytes   int64
	MemoryRows  int
	MemoryBytes int64
	Damaged     []DamagedRecord
	Closing     error // why rows cannot be put on disk; nil where they can
	Health      Health
}

// Status returns the state as of now.
func (h *History) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.catalog.current
	held := h.rows.Held()
	s := Status{
		Files: len(m.Files), MemoryRows: held.Rows, MemoryBytes: held.Bytes,
		Damaged: m.Damaged, Closing: held.Failure, Health: h.health,
	}
	for i := range m.Files {
		s.FileRows += m.Files[i].Rows
		s.FileBytes += m.Files[i].Bytes
	}
	return s
}

// growth remembers the free space of the last hour, a sample a minute.
type growth struct {
	samples []diskSample
}

type diskSample struct {
	at   time.Time
	free uint64
}

const (
	growthEvery   = time.Minute
	growthSamples = 61
	growthLeast   = 5 * time.Minute // shorter than that says nothing
)

// note takes a sample and returns in what time the disk is full; 0 where it is not filling.
func (g *growth) note(now time.Time, free uint64) time.Duration {
	if n := len(g.samples); n == 0 || now.Sub(g.samples[n-1].at) >= growthEvery {
		if n == growthSamples {
			g.samples = slices.Delete(g.samples, 0, 1)
		}
		g.samples = append(g.samples, diskSample{now, free})
	}
	first := g.samples[0]
	passed := now.Sub(first.at)
	if passed < growthLeast || free >= first.free {
		return 0
	}
	left := float64(free) / float64(first.free-free) * float64(passed)
	return time.Duration(min(left, float64(10*365*24*time.Hour)))
}

// watchDisk measures the disk and tells when its level changes.
func (h *History) watchDisk() {
	free, total, err := h.cfg.Free(filepath.Clean(h.cfg.Dir))
	if err != nil || total == 0 {
		return // the system cannot say
	}
	h.mu.Lock()
	fullIn := h.growth.note(h.cfg.Now(), free)
	now := h.judge(free, total, fullIn)
	changed := now.Level != h.health.Level && (h.health.Level != "" || now.Level != HealthOK)
	h.health = now
	h.mu.Unlock()
	h.cfg.Metrics.disk(now)
	if !changed {
		return
	}
	if now.Level == HealthOK {
		h.cfg.Log.Info("history: the disk has room again", "free_bytes", free, "total_bytes", total)
	} else {
		h.cfg.Log.Warn("history: "+now.Reason, "level", now.Level, "free_bytes", free, "total_bytes", total)
	}
	if h.cfg.Health != nil {
		h.cfg.Health(now)
	}
}

func (h *History) judge(free, total uint64, fullIn time.Duration) Health {
	n := Health{Level: HealthOK, Free: free, Total: total, FullIn: fullIn}
	share := float64(free) / float64(total)
	switch {
	case share < h.cfg.DiskCritical, fullIn > 0 && fullIn < time.Hour:
		n.Level = HealthCritical
	case share < h.cfg.DiskWarn, fullIn > 0 && fullIn < 24*time.Hour:
		n.Level = HealthWarning
	default:
		return n
	}
	n.Reason = fmt.Sprintf("the disk of %s has %.1f %% left", h.cfg.Dir, 100*share)
	if fullIn > 0 {
		n.Reason += fmt.Sprintf(" and is full in about %v at the pace of late", fullIn.Round(time.Minute))
	}
	return n
}
