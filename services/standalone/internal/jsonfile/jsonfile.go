// Package jsonfile writes the small files by which the data directory says something of itself.
package jsonfile

import (
	"encoding/json"

	"github.com/millrace/millrace/pkg/atomicfile"
)

// Write puts v as indented JSON into a file, as atomicfile.Write does.
func Write(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(b, '\n'))
}
