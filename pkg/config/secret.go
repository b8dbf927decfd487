package config

import (
	"fmt"
	"io"
	"log/slog"
)

const hidden = "***"

// Secret is a text that does not show: fmt (with every verb), slog, JSON and YAML write *** in its place, or nothing
// when it is empty. Give it in the file as ${VAR} or ${file:/path} rather than as it is. The bytes themselves are had by
// Reveal. One way round remains, since fmt calls no methods there: %v of a struct that keeps it in an unexported field.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns *** or, for an empty secret, nothing.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format writes String's result whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is what slog writes.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is what JSON and YAML write.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

// ConfigType names the type in the documentation.
func (Secret) ConfigType() string { return "secret" }
