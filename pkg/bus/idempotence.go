//go:build !breach_no_idempotence

package bus

// idempotent is false only in a build that shows what a harness reports when readers do not drop what they have taken.
const idempotent = true
