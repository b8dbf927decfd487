package parquet_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
)

const lifeWrites = 3

// life is what the fault tests live through: writes, closes and merges of three hours. It ends at the first error.
func life(ctx context.Context, cfg parquet.Config) error {
	clock := newClock(time.Now())
	cfg.Now = clock.Now
	h, err := parquet.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = h.Abandon() }()
	for i := range uint64(lifeWrites) {
		rows := messages(int(i)*20, int(i)*20+20)
		if err := h.Write(ctx, commit(0, i, i+1), rows); err != nil {
			return err
		}
		if err := h.Flush(ctx); err != nil {
			return err
		}
	}
	clock.turn(time.Hour)
	return errors.Join(h.Maintain(ctx), h.Maintain(ctx))
}

func TestACrashAtAnyStepLosesNothingAndDoublesNothing(t *testing.T) {
	count := &faults{}
	cfg := config(t.TempDir())
	cfg.FS = count
	if err := life(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if count.steps < 40 {
		t.Fatalf("only %d steps: the test does not reach what it is for", count.steps)
	}
	for _, half := range []bool{false, true} {
		for at := 1; at <= count.steps; at++ {
			t.Run(fmt.Sprintf("half=%v/step=%d", half, at), func(t *testing.T) { crashAt(t, at, half) })
		}
	}
}

func crashAt(t *testing.T, at int, half bool) {
	t.Helper()
	cfg := config(t.TempDir())
	cfg.FS = &faults{at: at, half: half, dead: true}
	if err := life(t.Context(), cfg); err == nil && at < 40 {
		t.Fatal("the fault was not felt")
	}
	cfg.FS = nil
	h := open(t, cfg)
	through := progressOf(t, h)
	wantOnce(t, readAll(t, h), 0, int(through)*20)
	for i := through; i < lifeWrites; i++ {
		write(t, h, commit(0, i, i+1), messages(int(i)*20, int(i)*20+20))
	}
	flush(t, h)
	wantOnce(t, readAll(t, h), 0, lifeWrites*20)
	wantNoStrays(t, h, cfg.Dir)
}

func progressOf(t *testing.T, h *parquet.History) uint64 {
	t.Helper()
	p, _, err := h.Progress(t.Context(), worker, bus.PartitionID{Topic: bus.Telemetry})
	if err != nil {
		t.Fatal(err)
	}
	return p.Through.Seq
}

// wantNoStrays checks that the folder holds what counts, and no other file of ours.
func wantNoStrays(t *testing.T, h *parquet.History, dir string) {
	t.Helper()
	if err := h.Maintain(t.Context()); err != nil { // removes what was replaced
		t.Fatal(err)
	}
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	listed := map[string]bool{}
	for _, path := range s.Files() {
		listed[path] = true
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.Contains(path, "dt=") && !listed[path] {
			t.Errorf("%s is there, and nothing names it", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestADiskThatRefusesForAWhileCostsNothing(t *testing.T) {
	count := &faults{}
	cfg := config(t.TempDir())
	cfg.FS = count
	h := open(t, cfg)
	for i := range uint64(20) {
		count.refuse(i%3 == 1)
		write(t, h, commit(0, i, i+1), messages(int(i)*10, int(i)*10+10))
		if err := h.Flush(t.Context()); (err != nil) != (i%3 == 1) {
			t.Fatalf("flush %d: %v", i, err)
		}
		count.refuse(false)
		flush(t, h)
	}
	wantOnce(t, readAll(t, h), 0, 200)
	crash(t, h)
	wantOnce(t, readAll(t, open(t, cfg)), 0, 200)
}

// victimDir is set for a process of this test that is to be killed.
const victimDir = "MILLRACE_TEST_VICTIM"

// victim writes, closes and merges without an end and tells how far the files go.
func victim(dir string) {
	cfg := config(dir)
	cfg.SegmentRows, cfg.MaintainEvery, cfg.MergeDelay = 300, time.Millisecond, time.Nanosecond
	ctx := context.Background()
	h, err := parquet.Open(ctx, cfg)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	p, _, err := h.Progress(ctx, worker, bus.PartitionID{Topic: bus.Telemetry})
	for i := p.Through.Seq; err == nil; i++ {
		err = h.Write(ctx, commit(0, i, i+1), messages(int(i)*50, int(i)*50+50))
		if p, _, e := h.Progress(ctx, worker, bus.PartitionID{Topic: bus.Telemetry}); e == nil {
			fmt.Println("on disk", p.Through.Seq)
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

func TestKill9LosesNothingThatProgressPromised(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	promised := uint64(0)
	for round := range 6 {
		promised = max(promised, killVictim(t, dir, promised+uint64(20*(round+1))))
		h := open(t, config(dir))
		through := progressOf(t, h)
		if through < promised {
			t.Fatalf("files go through %d, and Progress had said %d", through, promised)
		}
		wantOnce(t, readAll(t, h), 0, int(through)*50)
		wantNoStrays(t, h, config(dir).Dir)
		crash(t, h)
		promised = through
	}
}

// killVictim runs victim until it says that enough is on disk, kills it and returns the last it said.
func killVictim(t *testing.T, dir string, enough uint64) (said uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && said < enough {
		if _, err := fmt.Sscanf(lines.Text(), "on disk %d", &said); err != nil {
			t.Errorf("it says %q", lines.Text())
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	for lines.Scan() { // what it said while it was killed counts too
		_, _ = fmt.Sscanf(lines.Text(), "on disk %d", &said)
	}
	_ = cmd.Wait() // killed
	return said
}

var _ store.HistoryWriter = (*parquet.History)(nil)
