// Package httpedge takes messages over HTTP: POST /v1/messages and POST /v1/devices/{deviceId}/messages.
//
// The promise: 202 is answered only when the log has every message that it counts, and every record that it rejects as a
// dead letter, on disk. What came before a fault is not lost: good records of a body are kept when others are bad.
// Repeats that the router drops later count as accepted.
//
// The time for headers and their limit belong to the server that the handler is mounted on.
//
// Start reading at Edge.
package httpedge
