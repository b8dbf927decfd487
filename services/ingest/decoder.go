package ingest

import (
	"github.com/millrace/millrace/pkg/decoding"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Decoder returns a decoder that reads bodies as the edge does, for those that are put back later. It counts nothing.
func (c Config) Decoder() (*telemetry.Decoder, error) { return c.decoding().Decoder() }

// decoding returns how bodies are read.
func (c Config) decoding() decoding.Config {
	return decoding.Config{
		Limits:  decoding.Limits{MessageBytes: c.Limits.MessageBytes, JSONDepth: c.Limits.JSONDepth},
		Formats: c.Formats, Clock: c.Clock,
	}
}
