package rig

import (
	"context"
	"errors"
)

func newSplit(context.Context, Options, string) (set, error)   { return nil, errors.New("not yet") }
func newCluster(context.Context, Options, string) (set, error) { return nil, errors.New("not yet") }
