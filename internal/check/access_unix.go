//go:build unix

package check

import "golang.org/x/sys/unix"

// MayWriteIn returns nil where files can be made in a directory, as far as the system tells without making one.
func MayWriteIn(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
