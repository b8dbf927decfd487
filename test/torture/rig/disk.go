//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// disk is a small file system in memory that can be filled to the last byte.
type disk struct{ dir string }

// mount puts one on dir. It needs the right to mount.
func mount(dir string, bytes int64) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mount a small disk: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		return nil, fmt.Errorf("mount a small disk on %s: %w", dir, err)
	}
	return &disk{dir: dir}, nil
}

func (d *disk) unmount() error { return syscall.Unmount(d.dir, syscall.MNT_DETACH) }

// fill takes all room there is; the function gives it back.
func (d *disk) fill() (free func() error, err error) {
	path := filepath.Join(d.dir, "ballast")
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("fill %s: %w", d.dir, err)
	}
	const step = 1 << 20
	for size, at := int64(step), int64(0); size >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, at, size); {
		case err == nil:
			at += size
			size = min(size*2, 1<<30)
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case errors.Is(err, syscall.EINTR):
		default:
			return nil, errors.Join(fmt.Errorf("fill %s: %w", d.dir, err), f.Close(), os.Remove(path))
		}
	}
	return func() error { return errors.Join(f.Close(), os.Remove(path)) }, nil
}

// fault fills the disk for a while.
func (d *disk) fault(kind string, after func(context.Context) error) Fault {
	return Fault{kind, func(ctx context.Context, dice *rand.Rand) error {
		free, err := d.fill()
		if err != nil {
			return err
		}
		nap(ctx, between(dice, 500*time.Millisecond, 4*time.Second))
		if err := free(); err != nil {
			return err
		}
		return after(ctx)
	}}
}
