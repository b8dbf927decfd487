//go:build !unix

package parquet

import "errors"

func diskFree(string) (free, total uint64, err error) { return 0, 0, errors.ErrUnsupported }
