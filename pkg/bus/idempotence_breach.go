//go:build breach_no_idempotence

package bus

const idempotent = false
