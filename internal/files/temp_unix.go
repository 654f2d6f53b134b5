//go:build unix

package files

import (
	"io/fs"
	"os"
	"syscall"
)

// own says whether a file is this user's, so that nobody else has laid it here.
func own(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}

// private says whether nobody else can read or change what is in the directory. Some may be let through it.
func private(info fs.FileInfo) bool { return info.Mode().Perm()&^0o011 == 0o700 }
