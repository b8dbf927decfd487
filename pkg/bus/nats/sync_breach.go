//go:build breach_no_sync

package nats

const syncAlways = false
