package parquet

// What tests outside the package need of its inside.

// Abandon leaves the folder as a crash would.
func (h *History) Abandon() error { return h.abandon() }

// ParseManifest is for the fuzzer.
func ParseManifest(b []byte) error { _, err := parseManifest(b); return err }

// PlanMerge and PlanSplit are for the tables.
var (
	PlanMerge = planMerge
	PlanSplit = planSplit
)
