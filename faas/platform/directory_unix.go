//go:build unix

package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// directoryIdentity identifies a directory and its file system, whatever its path is.
func directoryIdentity(dir string) string {
	info, err := os.Stat(dir)
	if err != nil {
		return dir
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d", s.Dev, s.Ino)
	}
	return dir
}

// checkOwner refuses a directory of another user, who would decide what the platform runs. It
// accepts one of root.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return openError(err)
	}
	if owner, ok := ownerOf(info); ok && owner != 0 && owner != os.Geteuid() {
		return notRunError(faas.ErrPermissionDenied, "open",
			"directory %s belongs to user %d, who could have this platform run anything as user %d: name another directory, "+
				"or chown it", dir, owner, os.Geteuid())
	}
	return nil
}

func ownerOf(info fs.FileInfo) (int, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}

// syncDirectory makes renames in dir durable.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return storeError("%w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return storeError("%w", err)
	}
	return nil
}
