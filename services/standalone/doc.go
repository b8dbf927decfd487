// Package standalone runs every worker in one process, on an embedded log and embedded stores: what `millrace run` does. It
// differs from the split deployment only in what is connected.
//
// Start reading at Run; the parts are opened in plant.go, the workers listed in workers.go.
package standalone
