//go:build unix

package serverless

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives f the owner of the file that it replaces, so that the operator can still read a
// policy that root has edited. Only root can and needs to do so.
func keepOwner(f *os.File, replaced fs.FileInfo) {
	if st, ok := replaced.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid))
	}
}
