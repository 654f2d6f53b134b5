//go:build unix

package check

import "golang.org/x/sys/unix"

// MayWriteIn returns nil if files can be created in a directory, as far as the system tells without
// creating one.
func MayWriteIn(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
