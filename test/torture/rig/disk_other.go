//go:build !linux

package rig

import (
	"context"
	"errors"
)

// disk is only to be had on Linux.
type disk struct{ dir string }

func mount(string, int64) (*disk, error) {
	return nil, errors.New("small disks are mounted on Linux only")
}

func (d *disk) unmount() error { return nil }

func (d *disk) fault(kind string, _ func(context.Context) error) Fault { return Fault{Kind: kind} }
