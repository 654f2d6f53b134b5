package files

import "golang.org/x/sys/unix"

// CanExecute reports whether programs in dir may be executed, as far as its file system says.
// Hardened systems mount the directories of temporary files and logs without that permission.
func CanExecute(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Flags&unix.ST_NOEXEC == 0
}
