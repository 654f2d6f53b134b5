//go:build unix

package files

import (
	"io/fs"
	"os"
	"syscall"
)

// own reports whether a file belongs to this user, so that nobody else has put it here.
func own(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}

// private reports whether nobody else can read or change the content of the directory. Others may
// be allowed to pass through it.
func private(info fs.FileInfo) bool { return info.Mode().Perm()&^0o011 == 0o700 }
