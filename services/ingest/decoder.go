package ingest

import "github.com/millrace/millrace/pkg/telemetry"

// Decoder returns a decoder that reads bodies as the edge does, for those that are put back later. It counts nothing.
func (c Config) Decoder() (*telemetry.Decoder, error) {
	o, err := c.decoder()
	if err != nil {
		return nil, err
	}
	return telemetry.NewDecoder(o), nil
}
