package torture_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/torture/rig"
)

// TestNothingIsLostAndNothingIsDoubled is the short form of `make torture`: one process, broken in every way that the machine permits.
func TestNothingIsLostAndNothingIsDoubled(t *testing.T) {
	o := rig.Options{Seed: 2, Set: "embedded", Messages: 60_000, Dir: t.TempDir(), Out: t.Output()}
	if testing.Short() {
		o.Messages, o.Faults, o.Rate, o.Kinds = 10_000, 2, 5000, []string{"kill", "mqtt-cut"}
	}
	o.Bin = filepath.Join(o.Dir, "bin")
	if err := rig.Build(t.Context(), o.Bin, rig.Commands(o.Set)...); err != nil {
		t.Fatal(err)
	}
	report, err := rig.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	rig.Tell(&text, &report)
	t.Log(text.String())
	if !report.Clean() {
		t.Errorf("seed %d: a breach, see above", o.Seed)
	}
	if report.Acknowledged < o.Messages*9/10 {
		t.Errorf("%d of %d messages were acknowledged", report.Acknowledged, o.Messages)
	}
}
