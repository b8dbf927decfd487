package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/atomicfile"
	"github.com/millrace/millrace/pkg/filelock"
	"github.com/millrace/millrace/pkg/telemetry"
)

// fileBytesMax bounds the file: some hundred thousand credentials.
const fileBytesMax = 64 << 20

// document is the file: one JSON object.
type document struct {
	Credentials []Credential `json:"credentials"`
}

// read returns what the file at name holds; a file that does not exist holds nothing.
func read(name string) (document, error) {
	var doc document
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return doc, nil
	}
	if err != nil {
		return doc, err
	}
	if info.Size() > fileBytesMax {
		return doc, fmt.Errorf("%s: %d bytes, want at most %d", name, info.Size(), fileBytesMax)
	}
	b, err := os.ReadFile(name) //nolint:gosec // the operator names the file
	if err != nil {
		return doc, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return doc, fmt.Errorf("%s: %w", name, err)
	}
	for i, c := range doc.Credentials {
		if c.ID == "" || c.Hash == "" {
			return doc, fmt.Errorf("%s: credentials[%d]: id and sha256 are needed", name, i)
		}
	}
	return doc, nil
}

// edit changes the file in one step: others see it as before or as after. Editors wait for each other.
func edit(name string, change func(*document) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	lock, err := filelock.Take(name + ".lock")
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	doc, err := read(name)
	if err != nil {
		return err
	}
	if err := change(&doc); err != nil {
		return err
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(name, append(b, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Request says what Create makes: a device's key where Device is set, else an API token with Scopes.
type Request struct {
	Name    string
	Device  string
	ActsFor []string
	Scopes  []Scope
	Expires *time.Time
}

func (r Request) validate() error {
	switch {
	case r.Device == "" && len(r.Scopes) == 0:
		return errors.New("a token needs a device or at least one scope")
	case r.Device != "" && len(r.Scopes) > 0:
		return errors.New("a device's key has no scopes: make a token of its own for the API")
	}
	if r.Device != "" {
		if err := telemetry.ValidDeviceID(r.Device); err != nil {
			return fmt.Errorf("device: %w", err)
		}
	}
	for _, s := range r.Scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("scope %q: want one of %v", s, Scopes())
		}
	}
	for _, glob := range r.ActsFor {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("acts for %q: %w", glob, err)
		}
	}
	return nil
}

// Create adds a credential to the file and returns its secret, which is kept nowhere.
func Create(name string, r Request, now time.Time) (secret string, made Credential, err error) {
	if err := r.validate(); err != nil {
		return "", Credential{}, err
	}
	secret, id, err := newSecret()
	if err != nil {
		return "", Credential{}, err
	}
	made = Credential{
		ID: id, Name: r.Name, Device: r.Device, ActsFor: r.ActsFor, Scopes: r.Scopes,
		Hash: hash(secret), Created: now.UTC().Truncate(time.Second), Expires: r.Expires,
	}
	err = edit(name, func(doc *document) error {
		doc.Credentials = append(doc.Credentials, made)
		return nil
	})
	if err != nil {
		return "", Credential{}, fmt.Errorf("create a credential: %w", err)
	}
	return secret, made, nil
}

// List returns all credentials of the file, also the revoked ones.
func List(name string) ([]Credential, error) {
	doc, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	return doc.Credentials, nil
}

// Revoke ends the credential with the given id.
func Revoke(name, id string, now time.Time) error {
	err := edit(name, func(doc *document) error {
		i := slices.IndexFunc(doc.Credentials, func(c Credential) bool { return c.ID == id })
		if i < 0 {
			return fmt.Errorf("no credential has the id %q", id)
		}
		if doc.Credentials[i].Revoked == nil {
			at := now.UTC().Truncate(time.Second)
			doc.Credentials[i].Revoked = &at
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke a credential: %w", err)
	}
	return nil
}
