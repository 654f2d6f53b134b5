//go:build unix

package job

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// firstFree is the lowest descriptor that the taken streams may get, above the low numbers that
// some programs count on.
const firstFree = 10

// takeStreams moves stdin and stdout to other file descriptors, and puts /dev/null and stderr in
// their place, so that neither Go nor C code of a job can read from or print into the protocol.
func takeStreams() (io.Reader, io.Writer, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	in, err := take(0, int(null.Fd()), "stdin")
	if err != nil {
		return nil, nil, err
	}
	out, err := take(1, 2, "stdout")
	if err != nil {
		// If there is no stderr, what jobs print is lost.
		if out, err = take(1, int(null.Fd()), "stdout"); err != nil {
			return nil, nil, err
		}
	}
	return in, out, nil
}

// take moves fd away and puts a duplicate of instead in its place.
func take(fd, instead int, name string) (descriptor, error) {
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFree)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	if err := unix.Dup2(instead, fd); err != nil {
		_ = unix.Close(moved)
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	// Blocking calls answer in a third of the time that an os.File takes, which uses Go's network
	// poller.
	if err := unix.SetNonblock(moved, false); err != nil {
		_ = unix.Close(moved)
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return descriptor(moved), nil
}

// descriptor is a blocking file descriptor. It is never closed: the end of the process does that.
type descriptor int

// Read reads from the descriptor.
func (d descriptor) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write writes all of b to the descriptor.
func (d descriptor) Write(b []byte) (int, error) {
	for done := 0; ; {
		n, err := unix.Write(int(d), b[done:])
		if n > 0 {
			done += n
		}
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, os.NewSyscallError("write", err)
		case done >= len(b):
			return done, nil
		}
	}
}
