//go:build unix

package files

import "syscall"

// carefully makes opening a lock file neither follow a link nor wait for the other end of a named
// pipe, which somebody may have put in its place.
const carefully = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
