package damage_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/services/standalone/internal/damage"
)

func open(t *testing.T, data string) *damage.Book {
	t.Helper()
	b, err := damage.Open(data, prometheus.NewRegistry(), slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatWasFoundIsRememberedUntilTheFileIsDeleted(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	path := filepath.Join(data, "x.parquet")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.SetAside(path); err != nil {
		t.Fatal(err)
	}
	b.Take(damage.Entry{Kind: damage.History, Path: path, What: "cut", Lost: "3 rows", Aside: b.Aside()})
	if note, err := os.ReadFile(filepath.Join(b.Aside(), "NOTE.txt")); err != nil || !strings.Contains(string(note), "Missing: 3 rows") {
		t.Errorf("note %q, %v", note, err)
	}
	if _, err := os.Stat(filepath.Join(b.Aside(), "x.parquet")); err != nil {
		t.Error(err)
	}
	if all := open(t, data).Entries(); len(all) != 1 || all[0].Lost != "3 rows" || all[0].Found.IsZero() {
		t.Errorf("after a restart: %v", all)
	}
	if err := os.Remove(filepath.Join(data, "damage.json")); err != nil {
		t.Fatal(err)
	}
	if all := open(t, data).Entries(); len(all) != 0 {
		t.Errorf("after it was deleted: %v", all)
	}
}

func TestABookThatCannotBeReadIsSetAsideItself(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "damage.json"), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, data)
	if all := b.Entries(); len(all) != 1 || all[0].Kind != damage.Note {
		t.Errorf("%v", all)
	}
	if old, err := os.ReadFile(filepath.Join(b.Aside(), "damage.json")); err != nil || string(old) != "[{" {
		t.Errorf("kept %q, %v", old, err)
	}
}

func TestTheOldestEntriesAreForgotten(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	for i := range 250 {
		b.Take(damage.Entry{Kind: damage.Log, Path: fmt.Sprint(i)})
	}
	if all := open(t, data).Entries(); len(all) != 200 || all[199].Path != "249" {
		t.Errorf("%d entries", len(all))
	}
}
