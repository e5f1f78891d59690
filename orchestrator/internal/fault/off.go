//go:build !faults || !unix

package fault

// Point does nothing in this build.
func Point(string) {}
