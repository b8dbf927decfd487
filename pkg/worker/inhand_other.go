//go:build !unix

package worker

// mapInHand keeps nothing where the system has no mapping of this sort.
func mapInHand(string) (*inHand, error) { return nil, nil }
