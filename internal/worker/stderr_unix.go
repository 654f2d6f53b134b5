//go:build unix

package worker

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// logReader reads standard error. A call ends its last line: what the next call writes does not
// continue that line.
type logReader struct {
	raw  syscall.RawConn
	idle atomic.Bool // no call runs: an unfinished line is ended

	mu    sync.Mutex // held while a part is read and handed on
	lines lineReader
	buf   [maxPart]byte
	eof   bool
}

func newLogReader(stderr *os.File, lines lineReader) *logReader {
	raw, err := stderr.SyscallConn()
	if err != nil { // the file is open
		return nil
	}
	return &logReader{raw: raw, lines: lines}
}

// run reads until the end, or until a deadline.
func (r *logReader) run() {
	_ = r.raw.Read(func(fd uintptr) bool {
		for more, eof := true, false; more; {
			r.mu.Lock()
			if more = r.some(fd); !more && r.idle.Load() {
				r.lines.end()
			}
			eof = r.eof
			r.mu.Unlock()
			if eof {
				return true
			}
		}
		return false
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.raw.Control(func(fd uintptr) {
		for range 64 { // a pipe has at most 1 MiB by default, but somebody may still be writing
			if !r.some(fd) {
				return
			}
		}
	})
	r.lines.end()
	r.eof = true
}

// some reads what is there, up to a part, and reports whether there may be more. mu is held.
func (r *logReader) some(fd uintptr) bool {
	if r.eof {
		return false
	}
	n, err := unix.Read(int(fd), r.buf[:])
	switch {
	case err == unix.EINTR:
		return true
	case err == unix.EAGAIN:
		return false
	case err != nil || n == 0:
		r.eof = true
		return false
	}
	r.lines.take(r.buf[:n])
	return true
}

// begin says that a call runs.
func (r *logReader) begin() {
	if r != nil && r.idle.Load() {
		r.idle.Store(false)
	}
}

// quiet says that no call runs any more.
func (r *logReader) quiet() {
	if r != nil {
		r.idle.Store(true)
	}
}

// mostAtEnd is how many parts are read at the end of a call: as much as a pipe holds. The reader
// takes what comes after that.
const mostAtEnd = 16

// endCall reads what the last call wrote, before the next call can add to it.
func (r *logReader) endCall() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.raw.Control(func(fd uintptr) {
		for range mostAtEnd {
			if !r.some(fd) {
				r.lines.end()
				return
			}
		}
	})
}
