//go:build !unix

package nats

import "os"

// lockDir keeps nobody out where the system has no locks of this sort.
func lockDir(dir string) (unlock func(), err error) {
	return func() {}, os.MkdirAll(dir, 0o750)
}
