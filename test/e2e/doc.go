// Package e2e starts the real binaries and uses them as their users would: devices over MQTT and HTTP, analysts over SQL,
// dashboards over server-sent events; it kills them amid their work and looks at what is there afterwards.
//
// MILLRACE_BIN names the folder of the binaries, where they are built already. Without it the tests build their own.
package e2e
