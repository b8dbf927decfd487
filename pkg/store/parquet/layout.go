package parquet

import (
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/millrace/millrace/pkg/store/parquetfile"
)

const (
	tempSuffix    = ".tmp"
	damagedSuffix = ".damaged"
	lockName      = ".lock" // readers of whole folders (pandas, Spark) pass over what begins with a dot
)

// ourNames is what files of ours are called: why they were written, a number that is never used twice, and a part.
var ourNames = regexp.MustCompile(`^(close|spread|merge|split|restored)-\d{10}(-\d{3})?\.parquet(\.tmp)?$`)

func pathOf(kind string, of parquetfile.HourRows, number uint64) string {
	if of.Spread {
		kind = "spread"
	}
	return fmt.Sprintf("%s/%s-%010d.parquet", parquetfile.HourDir(of.Hour), kind, number)
}

// mergedPath names the part of what a merge wrote.
func mergedPath(dir string, number uint64, part int) string {
	return fmt.Sprintf("%s/merge-%010d-%03d.parquet", dir, number, part)
}

func isOurs(path string) bool { return ourNames.MatchString(filepath.Base(path)) }
