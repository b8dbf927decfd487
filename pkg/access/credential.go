package access

import (
	"path"
	"slices"
	"time"
)

// Scope is one thing that an API token allows.
type Scope string

// The scopes of API tokens. A device's key has none: it may send as its device.
const (
	ScopeSend  Scope = "send"  // post messages of the devices in ActsFor
	ScopeRead  Scope = "read"  // query API, live streams, SQL
	ScopeAdmin Scope = "admin" // acknowledge alarms, and everything else
)

// Scopes returns all scopes.
func Scopes() []Scope { return []Scope{ScopeSend, ScopeRead, ScopeAdmin} }

// Credential is what one key or token allows. It is never changed once it was handed out.
type Credential struct {
	ID     string `json:"id"` // look-up id: public, in the secret's second part, and on every message that it sent
	Name   string `json:"name,omitempty"`
	Device string `json:"device,omitempty"` // whose key it is; "" for an API token
	// ActsFor are further devices for which it may speak, as globs such as "house-*" (path.Match): a gateway's children. For
	// an API token they are all for which it may send; none means every device.
	ActsFor []string `json:"acts_for,omitempty"`
	Scopes  []Scope  `json:"scopes,omitempty"`

	Hash    string     `json:"sha256"` // of the whole secret, hexadecimal
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
}

// Live reports whether the credential is in force at now.
func (c *Credential) Live(now time.Time) bool {
	return c.Revoked == nil && (c.Expires == nil || now.Before(*c.Expires))
}

// May reports whether the credential has scope; admin includes the others.
func (c *Credential) May(scope Scope) bool {
	return slices.Contains(c.Scopes, scope) || slices.Contains(c.Scopes, ScopeAdmin)
}

// MaySendFor reports whether messages of device may come from this credential.
func (c *Credential) MaySendFor(device string) bool {
	if c.Device != "" && c.Device == device {
		return true
	}
	if c.Device == "" && !c.May(ScopeSend) {
		return false
	}
	if c.Device == "" && len(c.ActsFor) == 0 {
		return true
	}
	return slices.ContainsFunc(c.ActsFor, func(glob string) bool {
		ok, err := path.Match(glob, device)
		return err == nil && ok
	})
}
