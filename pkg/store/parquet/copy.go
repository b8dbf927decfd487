package parquet

import (
	"fmt"
	"path/filepath"
)

// loadEither returns the manifest in force: of the two the one with the higher generation, so that one that is damaged, gone or an older copy
// does no harm. nil where there is none. What is damaged is set aside.
func (h *History) loadEither() (*manifest, error) {
	first, firstErr := loadManifest(h.cfg.Manifest)
	second, secondErr := loadManifest(h.cfg.Copy)
	if second == nil && firstErr != nil {
		if secondErr != nil {
			return nil, fmt.Errorf("%w; and its copy: %w", firstErr, secondErr)
		}
		return nil, firstErr
	}
	switch {
	case second == nil:
	case firstErr != nil:
		return second, h.replaceManifest(second, firstErr.Error())
	case first == nil:
		return second, h.replaceManifest(second, "it is not there")
	case first.Generation < second.Generation:
		return second, h.replaceManifest(second, fmt.Sprintf("it is an older one, of generation %d, and its copy of %d", first.Generation, second.Generation))
	}
	if secondErr != nil {
		aside, err := h.setManifestAside(h.cfg.Copy)
		if err != nil {
			return nil, err
		}
		h.cfg.Found(Finding{Manifest: true, Path: h.cfg.Copy, Aside: aside, What: secondErr.Error() + "; it is only a copy, and written anew"})
	}
	return first, nil
}

// replaceManifest puts m in the place of the first manifest.
func (h *History) replaceManifest(m *manifest, reason string) error {
	aside, err := h.setManifestAside(h.cfg.Manifest)
	if err == nil {
		err = m.save(h.cfg.FS, h.cfg.Manifest)
	}
	if err != nil {
		return fmt.Errorf("use the copy of the manifest: %w", err)
	}
	h.cfg.Found(Finding{Manifest: true, Path: h.cfg.Manifest, Aside: aside, What: reason + "; its copy stands in for it, and nothing is lost"})
	return nil
}

// setManifestAside moves a manifest out of the way, and returns where to; "" where it is not there.
func (h *History) setManifestAside(path string) (aside string, err error) {
	if h.cfg.Aside == "" {
		return h.moveAside(path, path+damagedSuffix)
	}
	return h.moveAside(path, filepath.Join(h.cfg.Aside, filepath.Base(path)))
}

// saveCopy writes the second manifest. Where it cannot, the one there stays, and with it the files that it names.
func (h *History) saveCopy(m *manifest) {
	if err := m.save(h.cfg.FS, h.cfg.Copy); err != nil {
		h.cfg.Log.Warn("history: the copy of the manifest is out of date; it is tried again", "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.copied = m.Generation
}

func (h *History) copyAgrees() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.copied == h.catalog.current.Generation
}

// renewCopy tries again what saveCopy could not.
func (h *History) renewCopy() {
	if h.copyAgrees() {
		return
	}
	h.commitMu.Lock()
	defer h.commitMu.Unlock()
	h.saveCopy(h.catalog.current)
}
