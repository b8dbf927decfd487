package parquet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/store/parquetfile"
	"github.com/millrace/millrace/pkg/telemetry"
)

// recover makes the folder and the manifest agree: what an earlier process wrote and did not make count is removed, what
// counts and is not whole is set aside.
func (h *History) recover(ctx context.Context) error {
	m, err := h.loadEither()
	if err != nil {
		return err
	}
	found, err := h.survey(ctx)
	if err != nil {
		return err
	}
	if m == nil {
		if len(found) > 0 {
			return fmt.Errorf("there is no manifest %s, yet %s and %d more files that only a manifest can vouch for: "+
				"restore the manifest, or move the archive away", h.cfg.Manifest, found[0], len(found)-1)
		}
		m = &manifest{Version: manifestVersion}
		if err := m.save(h.cfg.FS, h.cfg.Manifest); err != nil { // from now on a missing one is a loss
			return err
		}
	}
	covered, err := m.covered()
	if err != nil {
		return fmt.Errorf("manifest %s: %w", h.cfg.Manifest, err)
	}
	for from, progress := range covered {
		h.rows.SetDurable(from, progress)
	}
	h.next = m.Next
	h.catalog.current, h.catalog.paths = m, absolute(h.cfg.Dir, m.Files)
	h.cfg.Metrics.catalog(m)
	whole, err := h.verify(m)
	if err != nil {
		return err
	}
	if err := h.removeUnlisted(m, found, whole); err != nil {
		return err
	}
	h.saveCopy(h.catalog.current)
	return nil
}

// survey returns the paths, relative and with slashes, of the files in the folder that have a name of ours, and logs foreign ones.
func (h *History) survey(ctx context.Context) (ours []string, err error) {
	foreign := 0
	err = filepath.WalkDir(h.cfg.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(h.cfg.Dir, path)
		if err != nil {
			return err
		}
		switch {
		case isOurs(path):
			ours = append(ours, filepath.ToSlash(rel))
		case path == h.cfg.Manifest, path == h.cfg.Manifest+tempSuffix, path == h.cfg.Copy, path == h.cfg.Copy+tempSuffix, e.Name() == lockName, strings.HasSuffix(path, damagedSuffix):
		default:
			if foreign++; foreign <= 3 {
				h.cfg.Log.Warn("history: a file in the archive is not ours; it is left alone and never read", "path", path)
			}
		}
		return nil
	})
	if foreign > 3 {
		h.cfg.Log.Warn("history: files in the archive are not ours; they are left alone and never read", "count", foreign)
	}
	if err != nil {
		return nil, fmt.Errorf("survey the archive: %w", err)
	}
	return ours, nil
}

// removeUnlisted removes the files that m does not name. Where a file that it names is gone, m may be older than the folder, and the files
// are moved away instead.
func (h *History) removeUnlisted(m *manifest, found []string, whole bool) error {
	listed := make(map[string]bool, len(m.Files))
	for i := range m.Files {
		listed[m.Files[i].Path] = true
	}
	removed := 0
	for _, rel := range found {
		if listed[rel] {
			continue
		}
		path := filepath.Join(h.cfg.Dir, filepath.FromSlash(rel))
		if !whole {
			aside, err := h.moveAside(path, h.asidePath(rel))
			if err != nil {
				return fmt.Errorf("move away %s, which no manifest names: %w", rel, err)
			}
			h.cfg.Found(Finding{
				Path: path, Aside: aside,
				What: "no manifest names it, though others that it names are gone, so the manifest may be an older one: it is kept and not read",
			})
			continue
		}
		if err := h.cfg.FS.Remove(path); err != nil {
			return fmt.Errorf("remove %s, which no manifest names: %w", rel, err)
		}
		removed++
	}
	if removed > 0 {
		h.cfg.Log.Info("history: removed what an earlier process had not finished or not yet removed", "files", removed)
	}
	return nil
}

// verify sets aside the files that are missing or cut; whole says that none is missing. It reads 8 bytes of each; the rest is checked by and
// by, and when it is read.
func (h *History) verify(m *manifest) (whole bool, err error) {
	whole = true
	for i := range m.Files {
		path := filepath.Join(h.cfg.Dir, filepath.FromSlash(m.Files[i].Path))
		err := verifyFile(path, m.Files[i].Bytes)
		if d := (*damagedError)(nil); errors.As(err, &d) {
			whole = whole && !errors.Is(err, fs.ErrNotExist)
			err = h.setAside(m.Files[i].Path, d.err.Error())
		}
		if err != nil {
			return false, err
		}
	}
	return whole, nil
}

func verifyFile(path string, size int64) (err error) {
	f, err := os.Open(path) //nolint:gosec // a file of the archive
	if err != nil {
		return damaged(path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if st.Size() != size {
		return damaged(path, fmt.Errorf("%d bytes, want %d", st.Size(), size))
	}
	if err := parquetfile.CheckFooter(f, size); err != nil {
		return damaged(path, err)
	}
	return nil
}

// SetAside takes a file that cannot be read out of history: it is moved to Config.Aside, or renamed to its name with ".damaged" behind it, and
// the manifest remembers the loss, which Status and the log tell. path is absolute, as in Snapshot.Files. A path that no manifest names is
// nothing to do.
func (h *History) SetAside(path, reason string) error {
	rel, err := filepath.Rel(h.cfg.Dir, path)
	if err != nil {
		return fmt.Errorf("set aside %s: %w", path, err)
	}
	return h.setAside(filepath.ToSlash(rel), reason)
}

var errNothing = errors.New("nothing to change")

func (h *History) setAside(rel, reason string) error {
	path := filepath.Join(h.cfg.Dir, filepath.FromSlash(rel))
	var lost FileInfo
	err := h.commit(func(m *manifest) error {
		i := slices.IndexFunc(m.Files, func(f FileInfo) bool { return f.Path == rel })
		if i < 0 {
			return errNothing
		}
		lost = m.Files[i]
		m.Files = slices.Delete(m.Files, i, i+1)
		m.Damaged = append(m.Damaged, DamagedRecord{
			Path: rel, Rows: lost.Rows, Reason: reason, Found: telemetry.At(h.cfg.Now()), Aside: h.asidePath(rel),
			MinEvent: lost.MinEvent, MaxEvent: lost.MaxEvent, First: lost.First, Last: lost.Last,
		})
		return nil
	}, func() {
		last := len(h.catalog.doomed) - 1 // commit has just added it; it is kept for who wants to repair it
		h.catalog.doomed = h.catalog.doomed[:last]
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set aside %s: %w", path, err)
	}
	aside, err := h.moveAside(path, h.asidePath(rel))
	if err != nil {
		return fmt.Errorf("set aside %s: %w", path, err)
	}
	h.cfg.Log.Error("history: a file cannot be read; its rows are lost to queries until they are made again",
		"path", path, "kept_as", aside, "rows", lost.Rows, "reason", reason)
	h.cfg.Found(Finding{Path: path, Aside: aside, What: fmt.Sprintf("%s; its %d rows are made again as far as the log has them", reason, lost.Rows)})
	return nil
}

// asidePath is where a file of the archive goes when it is set aside.
func (h *History) asidePath(rel string) string {
	if h.cfg.Aside == "" {
		return filepath.Join(h.cfg.Dir, filepath.FromSlash(rel)) + damagedSuffix
	}
	return filepath.Join(h.cfg.Aside, strings.ReplaceAll(rel, "/", "_"))
}

// moveAside moves a file or a manifest, and returns where to; "" where it is not there.
func (h *History) moveAside(path, aside string) (string, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if h.cfg.Aside != "" {
		if err := h.cfg.FS.MkdirAll(h.cfg.Aside); err != nil {
			return "", err
		}
	}
	return aside, h.cfg.FS.Rename(path, aside)
}
