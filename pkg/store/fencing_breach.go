//go:build breach_no_idempotence

package store

const fencing = false
