// Package demo simulates a small house and a laboratory whose devices send to Millrace over real MQTT, so that a newcomer
// sees every part of the pipeline move: telemetry, logs, windows, alarms, and what goes wrong with real devices (a late
// message, a malformed one, a critical one, a device that falls silent).
//
// What a device says is pure (Device, a function of the clock and a seeded source of chance); Run connects and sends it.
package demo
