//go:build unix

package serverless

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives f the owner of the file that it is to replace, so that a policy edited by root stays readable to its operator. Others than root
// cannot, and need not.
func keepOwner(f *os.File, replaced fs.FileInfo) {
	if st, ok := replaced.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid))
	}
}
