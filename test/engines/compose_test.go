package engines_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/test/engines"
)

// ports are what matches in text, sorted.
func ports(text []byte, pattern string) (found []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		found = append(found, string(m[1]))
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestTheContainersAndWhatTestsAreToldOfThemNameTheSamePortsAndEngines(t *testing.T) {
	const dir = "../../deploy/compose"
	told, err := exec.CommandContext(t.Context(), "bash", filepath.Join(dir, "engines.sh"), "file").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "engines.json")
	if err := os.WriteFile(file, told, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := enginetest.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range engines.Names() {
		if f.Engines[name]["url"] == "" && f.Missing[name] == "" {
			t.Errorf("%s has no url, and nothing says that it is missing", name)
		}
	}
	settings, err := json.Marshal(f.Engines)
	if err != nil {
		t.Fatal(err)
	}
	containers, err := os.ReadFile(filepath.Join(dir, "engines.yml"))
	if err != nil {
		t.Fatal(err)
	}
	published := ports(containers, `"127\.0\.0\.1:(\d+):\d+"`)
	if named := ports(settings, `127\.0\.0\.1:(\d+)`); len(named) == 0 || !slices.Equal(published, named) {
		t.Errorf("the containers publish %v, tests are told of %v", published, named)
	}
}
