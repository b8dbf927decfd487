//go:build !breach_no_idempotence

package store

// fencing is false only in a build that shows what a harness reports when a store takes every write as a new one.
const fencing = true
