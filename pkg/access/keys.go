package access

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// ErrRefused is the one answer to an unknown, an expired and a revoked secret, so that none can be told from another.
var ErrRefused = errors.New("the key or token is not valid")

// followEvery is how often the file is looked at: often enough for a change to count within a second.
const followEvery = 250 * time.Millisecond

// Keys follows a credentials' file. Safe for concurrent use.
type Keys struct {
	name string
	now  func() time.Time
	log  *slog.Logger

	mu        sync.RWMutex
	byID      map[string]*Credential
	seen      stamp
	listeners map[int]func()
	next      int
}

// stamp tells one content of the file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// Open reads the file, which need not exist yet, and follows it until ctx ends. A file that cannot be read at first is an error;
// one that breaks later is said in the log, and what was known stays in force.
func Open(ctx context.Context, name string, log *slog.Logger, now func() time.Time) (*Keys, error) {
	k := &Keys{name: name, now: now, log: log, listeners: map[int]func(){}}
	if err := k.load(); err != nil {
		return nil, err
	}
	go k.follow(ctx)
	return k, nil
}

func (k *Keys) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	broken := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		before := k.seen
		if now := look(k.name); now == before {
			continue
		}
		err := k.load()
		switch {
		case err == nil:
			broken = ""
			k.tell()
		case err.Error() != broken:
			broken = err.Error()
			k.log.Error("credentials cannot be read; those known before stay in force", "error", err)
		}
	}
}

func look(name string) stamp {
	info, err := os.Stat(name)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}

// load reads the file whole. Only follow and Open call it.
func (k *Keys) load() error {
	seen := look(k.name)
	doc, err := read(k.name)
	if err != nil {
		return err
	}
	byID := make(map[string]*Credential, len(doc.Credentials))
	for i := range doc.Credentials {
		byID[doc.Credentials[i].ID] = &doc.Credentials[i]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.byID, k.seen = byID, seen
	return nil
}

func (k *Keys) tell() {
	k.mu.RLock()
	listeners := make([]func(), 0, len(k.listeners))
	for _, f := range k.listeners {
		listeners = append(listeners, f)
	}
	k.mu.RUnlock()
	for _, f := range listeners {
		f()
	}
}

// OnChange calls f, which must not block, after each change of the file, until stop is called.
func (k *Keys) OnChange(f func()) (stop func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := k.next
	k.next++
	k.listeners[id] = f
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.listeners, id)
	}
}

// Authenticate returns the credential of a secret, or ErrRefused.
func (k *Keys) Authenticate(secret string) (*Credential, error) {
	k.mu.RLock()
	c := k.byID[lookupID(secret)]
	k.mu.RUnlock()
	if c == nil || !c.matches(secret) || !c.Live(k.now()) {
		return nil, ErrRefused
	}
	return c, nil
}

// InForce returns the credential with the given id as it is now, or ErrRefused: a long-lived session asks after a change,
// and now and then for what expires.
func (k *Keys) InForce(id string) (*Credential, error) {
	k.mu.RLock()
	c := k.byID[id]
	k.mu.RUnlock()
	if c == nil || !c.Live(k.now()) {
		return nil, ErrRefused
	}
	return c, nil
}
