package parquet_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store/parquet"
)

// watched is a configuration that keeps what was found.
func watched(t *testing.T) (parquet.Config, *[]parquet.Finding) {
	t.Helper()
	var all []parquet.Finding
	base := t.TempDir()
	cfg := config(filepath.Join(base, "archive"))
	cfg.Manifest, cfg.Aside = filepath.Join(base, "manifest.json"), filepath.Join(base, "aside")
	cfg.Found = func(f parquet.Finding) { all = append(all, f) }
	return cfg, &all
}

func flipMiddle(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/3] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func files(t *testing.T, h *parquet.History) []string {
	t.Helper()
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	return s.Files()
}

func TestEveryDamageOfAFileIsFoundNamedAndSetAside(t *testing.T) {
	cut := func(share int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			t.Helper()
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, st.Size()*share/100); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range map[string]func(t *testing.T, path string){
		"empty": cut(0), "cut in the middle": cut(50), "cut at its end": cut(99), "a bit flipped": flipMiddle,
		"a directory": func(t *testing.T, path string) {
			t.Helper()
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o750)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, found := watched(t)
			h := open(t, cfg)
			writeFiles(t, h, 3, 10)
			victim := files(t, h)[1]
			crash(t, h)
			damage(t, victim)
			h = open(t, cfg)
			if err := h.Maintain(t.Context()); err != nil { // reads what has not been read for long
				t.Fatal(err)
			}
			if n := len(readAll(t, h)); n != 20 {
				t.Errorf("%d rows are left, want those of the two whole files", n)
			}
			if len(*found) != 1 || (*found)[0].Path != victim || (*found)[0].Aside == "" {
				t.Fatalf("found %+v, want %s", *found, victim)
			}
			if _, err := os.Stat((*found)[0].Aside); err != nil {
				t.Errorf("it is not kept: %v", err)
			}
			if d := h.Status().Damaged; len(d) != 1 || d[0].Rows != 10 || d[0].MinEvent == 0 || d[0].First.ID == "" {
				t.Errorf("remembered as %+v", d)
			}
		})
	}
}

func TestAFileThatCannotBeLookedAtHoldsUpNoOther(t *testing.T) {
	cfg, found := watched(t)
	h := open(t, cfg)
	writeFiles(t, h, 3, 10)
	all := files(t, h)
	if err := errors.Join(os.Remove(all[0]), os.Symlink(all[0], all[0])); err != nil { // it leads to itself, which is no damage
		t.Fatal(err)
	}
	flipMiddle(t, all[2])
	if err := h.Maintain(t.Context()); err == nil {
		t.Error("that a file cannot be looked at is not said")
	}
	if len(*found) != 1 || (*found)[0].Path != all[2] {
		t.Errorf("found %+v, want %s", *found, all[2])
	}
}

func TestAQueryThatFailsOnAFileHasItSetAside(t *testing.T) {
	cfg, found := watched(t)
	h := open(t, cfg)
	writeFiles(t, h, 2, 10)
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	victim := s.Files()[0]
	if again, err := s.Doubt(fmt.Errorf("cannot read %s", victim)); again || err != nil {
		t.Errorf("a whole file is set aside: %v, %v", again, err)
	}
	flipMiddle(t, victim)
	if again, err := s.Doubt(errors.New("something else")); again || err != nil {
		t.Errorf("an error that names no file sets one aside: %v, %v", again, err)
	}
	if again, err := s.Doubt(fmt.Errorf("cannot read %s", victim)); !again || err != nil || len(*found) != 1 {
		t.Errorf("a damaged file is not set aside: %v, %v, %+v", again, err, *found)
	}
	if n := len(files(t, h)); n != 1 {
		t.Errorf("%d files, want 1", n)
	}
}

func TestOneManifestIsEnough(t *testing.T) {
	read := func(t *testing.T, path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(t *testing.T, path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, path string, older []byte){
		"empty":        func(t *testing.T, path string, _ []byte) { t.Helper(); write(t, path, nil) },
		"cut":          func(t *testing.T, path string, older []byte) { t.Helper(); write(t, path, older[:len(older)/2]) },
		"flipped":      func(t *testing.T, path string, _ []byte) { t.Helper(); flipMiddle(t, path) },
		"gone":         func(t *testing.T, path string, _ []byte) { t.Helper(); remove(t, path) },
		"an older one": func(t *testing.T, path string, older []byte) { t.Helper(); write(t, path, older) },
		"a directory": func(t *testing.T, path string, _ []byte) {
			t.Helper()
			remove(t, path)
			if err := os.Mkdir(path, 0o750); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, copied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, copy=%v", name, copied), func(t *testing.T) {
				clock := newClock(time.Now())
				cfg, found := watched(t)
				cfg.Now = clock.Now
				h := open(t, cfg)
				path := cfg.Manifest
				if copied {
					path = filepath.Join(cfg.Dir, ".manifest.copy")
				}
				writeFiles(t, h, 3, 10)
				older := read(t, path)
				clock.turn(time.Hour)
				maintain(t, h)
				clock.turn(time.Hour)
				maintain(t, h) // what the older one names is gone
				crash(t, h)
				damage(t, path, older)
				h = open(t, cfg)
				wantOnce(t, readAll(t, h), 0, 30)
				if want := !copied || name != "gone" && name != "an older one"; want != (len(*found) == 1 && (*found)[0].Manifest) {
					t.Errorf("found %+v", *found)
				}
				crash(t, h)
				h = open(t, cfg)
				wantOnce(t, readAll(t, h), 0, 30)
				if p := progressOf(t, h); p != 3 {
					t.Errorf("progress %d, want 3", p)
				}
			})
		}
	}
}

func TestFilesThatAnOlderManifestDoesNotNameAreKept(t *testing.T) {
	clock := newClock(time.Now())
	cfg, _ := watched(t)
	cfg.Now = clock.Now
	h := open(t, cfg)
	writeFiles(t, h, 3, 10)
	older, err := os.ReadFile(cfg.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	clock.turn(time.Hour)
	maintain(t, h)
	clock.turn(time.Hour)
	maintain(t, h)
	merged := files(t, h)
	crash(t, h)
	for _, path := range []string{cfg.Manifest, filepath.Join(cfg.Dir, ".manifest.copy")} {
		if err := os.WriteFile(path, older, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h = open(t, cfg)
	if n := len(h.Status().Damaged); n != 3 {
		t.Errorf("%d files are missing, want 3", n)
	}
	if kept, err := filepath.Glob(filepath.Join(cfg.Aside, "*"+filepath.Base(merged[0]))); err != nil || len(kept) != 1 {
		t.Errorf("%s, which the older manifest does not name, was not kept: %v, %v", merged[0], kept, err)
	}
}

func TestRowsOfAFileThatWasSetAsideArePutBackOnce(t *testing.T) {
	cfg, _ := watched(t)
	cfg.SegmentRows = 7 // more than one file
	h := open(t, cfg)
	writeFiles(t, h, 3, 10)
	before := files(t, h)
	for _, victim := range before[:2] {
		flipMiddle(t, victim)
		if err := h.SetAside(victim, "flipped"); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		r, err := h.Restore(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			if r != nil {
				t.Error("what was searched for is searched for again")
			}
			break
		}
		for range 2 { // as a log may give a record twice
			rows := messages(0, 30)
			for i := range rows {
				if err := r.Add(t.Context(), &rows[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		done, err := r.Done(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		restored := int64(0)
		for _, d := range done {
			restored += d.Restored
		}
		if len(done) != 2 || restored != int64(30-len(readFile(t, before[len(before)-1]))*(len(before)-2)) {
			t.Errorf("done %v", done)
		}
	}
	wantOnce(t, readAll(t, h), 0, 30)
	crash(t, h)
	h = open(t, cfg)
	wantOnce(t, readAll(t, h), 0, 30)
}
