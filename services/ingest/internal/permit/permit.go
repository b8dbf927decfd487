// Package permit answers who may speak for which device: a credential for its own device and for those it acts for, and a
// gateway of the configuration for its children. Both edges ask here, so that what is refused on one is refused on the other.
package permit

import (
	"path"
	"slices"

	"github.com/millrace/millrace/pkg/access"
)

// Gateway says that a device speaks for others.
type Gateway struct {
	Device string   // the gateway's own id
	For    []string // its children: ids or globs such as "house-*" (path.Match)
}

// Rules makes senders. Never changed after New; safe for concurrent use.
type Rules struct {
	children map[string][]string // globs by gateway
}

// New returns the rules of the configured gateways.
func New(gateways []Gateway) *Rules {
	r := &Rules{children: make(map[string][]string, len(gateways))}
	for _, g := range gateways {
		r.children[g.Device] = append(r.children[g.Device], g.For...)
	}
	return r
}

// Sender returns the sender that authenticated with the credential; nil is anybody, on an open listener.
func (r *Rules) Sender(c *access.Credential) *Sender { return &Sender{rules: r, cred: c} }

// Sender is who sends on a connection or with a request. Safe for concurrent use.
type Sender struct {
	rules *Rules
	cred  *access.Credential
}

// Credential returns the id of the sender's credential, "" on an open listener.
func (s *Sender) Credential() string {
	if s.cred == nil {
		return ""
	}
	return s.cred.ID
}

// Device returns the device whose key the sender has; "" for an API token and on an open listener.
func (s *Sender) Device() string {
	if s.cred == nil {
		return ""
	}
	return s.cred.Device
}

// MaySend reports whether the sender may send for any device at all: every device's key may, and a token with the scope.
func (s *Sender) MaySend() bool {
	return s.cred == nil || s.cred.Device != "" || s.cred.May(access.ScopeSend)
}

// MaySendFor reports whether the sender may use a topic or path of device.
func (s *Sender) MaySendFor(device string) bool {
	return s.cred == nil || s.cred.MaySendFor(device) ||
		s.cred.Device != "" && match(s.rules.children[s.cred.Device], device)
}

// MayActFor reports whether a body may speak for device though it came on a topic or path of from ("": one that names no
// device). A token that may send for every device is no gateway: on another device's topic it is held to that device.
func (s *Sender) MayActFor(from, device string) bool {
	if !s.MaySendFor(device) {
		return match(s.rules.children[from], device) && s.MaySendFor(from)
	}
	if from == "" || from == device || match(s.rules.children[from], device) {
		return true
	}
	return s.cred != nil && (match(s.cred.ActsFor, device) || match(s.rules.children[s.cred.Device], device))
}

// MayRead reports whether the sender may follow the live streams of device; "" stands for all devices.
func (s *Sender) MayRead(device string) bool {
	if s.cred == nil || s.cred.May(access.ScopeRead) {
		return true
	}
	return device != "" && s.cred.Device == device
}

func match(globs []string, device string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, err := path.Match(glob, device)
		return err == nil && ok
	})
}

// Is reports whether the sender has this very credential, with what it allows.
func (s *Sender) Is(c *access.Credential) bool { return s.cred == c }
