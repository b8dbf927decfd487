// Package schemas embeds the contracts that Millrace keeps with the outside: the protobuf of the bus, the JSON Schemas
// of device formats, the tables' DDL and the OpenAPI description of the HTTP interface. Code is tested against them.
package schemas

import (
	"embed"
	"io/fs"
)

// Everything beside this file, so that a new contract is embedded by being there.
//
//go:embed *
var files embed.FS

//go:embed proto/millrace/v1/message.proto
var proto string

// Files returns all contracts as a read-only tree, with the paths that they have in this folder, such as
// "device/channel.schema.json" or "duckdb/0001_tables.sql". Safe for concurrent use.
func Files() fs.FS { return files }

// Read returns one contract by its path, such as "openapi.yaml". The caller owns the bytes.
func Read(path string) ([]byte, error) { return files.ReadFile(path) }

// ProtoPath is the name by which the bus's protobuf schema lies in Files.
const ProtoPath = "proto/millrace/v1/message.proto"

// Proto returns the protobuf schema of what travels on the bus. The caller owns the bytes.
func Proto() []byte { return []byte(proto) }
