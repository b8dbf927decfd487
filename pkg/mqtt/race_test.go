//go:build race

package mqtt_test

const raceOn = true
