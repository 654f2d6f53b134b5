//go:build unix

package files

import "syscall"

// carefully makes the opening of a lock file neither follow a link nor wait for the other end of a named pipe, which somebody may have laid in its place.
const carefully = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
