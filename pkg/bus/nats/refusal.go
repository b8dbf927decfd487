package nats

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// explain says of an error of connecting which setting to look at.
func explain(err error) error {
	switch text := err.Error(); {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), strings.Contains(strings.ToLower(text), "authorization violation"):
		return fmt.Errorf("the server refuses us: see bus.user and bus.password, bus.token or bus.credentials, whichever it asks for: %w", err)
	case isAny[*tls.CertificateVerificationError](err), isAny[x509.UnknownAuthorityError](err), isAny[x509.HostnameError](err):
		return fmt.Errorf("the server's certificate is not one that we trust: see bus.tls.ca: %w", err)
	case strings.Contains(text, "remote error: tls"), strings.Contains(text, "certificate required"),
		strings.Contains(text, "after TLS handshake"): // in TLS 1.3 the client's side is done before the server has looked at its certificate
		return fmt.Errorf("the server does not take our certificate, or wants one: see bus.tls.cert: %w", err)
	case errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("one side wants TLS and the other does not: see bus.url (tls:// or nats://) and bus.tls: %w", err)
	}
	return err
}

func isAny[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
