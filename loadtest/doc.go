// Package loadtest sends load to a running instance as a fleet of devices would, and measures what comes of it: how fast
// messages are acknowledged, how fast they are in every store, what the instance's process needs for it, and how long a
// message takes from its publish to a live subscriber.
//
// It is a generator with a stopwatch, not a test: it asserts nothing about speed.
package loadtest
