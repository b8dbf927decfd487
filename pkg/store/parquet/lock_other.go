//go:build !unix

package parquet

import "errors"

// lockDir does nothing here: that only one process opens a folder is up to whoever starts them.
func lockDir(string) (unlock func() error, err error) { return func() error { return nil }, nil }

func diskFree(string) (free, total uint64, err error) { return 0, 0, errors.ErrUnsupported }
