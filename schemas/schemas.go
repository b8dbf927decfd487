// Package schemas embeds the contracts that Millrace keeps with the outside: the protobuf of the bus, the JSON Schemas
// of device formats, the tables' DDL and the OpenAPI description of the HTTP interface. Code is tested against them.
package schemas
