//go:build !breach_no_sync

package nats

// syncAlways has the embedded server sync each append before it is acknowledged. The server's default, every two minutes, loses
// acknowledged messages with the power; a build with the tag breach_no_sync has it, so that a test can show that it would be noticed.
const syncAlways = true
