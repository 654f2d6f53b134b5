package worker

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// output is the standard output of a warm process, and decides who reads it: the reader goroutine,
// which waits in Go's network poller, or the caller of the only call in flight, which waits on its
// own thread. The latter takes a third of the time, because no goroutine must be woken. But it
// blocks the thread, so the caller waits only a moment and then leaves the rest to the goroutine.
//
// The pipe is not registered with Go's poller: each answer to such a caller would wake the poller's
// thread for nothing. Between the two is an epoll instance, which watches the pipe only while the
// goroutine waits for it.
type output struct {
	fd    int      // of the pipe
	inner int      // the epoll instance
	poll  *os.File // the same
	raw   syscall.RawConn
	now   io.Reader // reads fd without waiting

	using sync.Mutex // held while a caller uses fd, so that it stays open

	mu     sync.Mutex
	role   readerRole
	armed  bool // inner watches the pipe
	wanted bool // the goroutine must read when the caller with the role has ended
	closed bool
	err    error // what a caller found that ends the reading
}

type readerRole int

const (
	noReader readerRole = iota
	callerReads
	goroutineReads
)

// directWait is the longest time that a caller waits on its own thread. It is longer than a tick of
// the kernel's clock: a shorter wait would reprogram the hardware's timer for every call, which
// costs more than all the rest if that timer is virtual.
const directWait = 10 * time.Millisecond

// takeOutput takes the pipe over from stdout, which it closes.
func takeOutput(stdout *os.File) (*output, error) {
	raw, err := stdout.SyscallConn()
	if err != nil {
		return nil, err
	}
	o := &output{armed: true}
	if cerr := raw.Control(func(fd uintptr) { o.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	o.now = descriptor(o.fd)
	if o.inner, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		err = unix.SetNonblock(o.inner, true)
	}
	if err == nil {
		o.poll = os.NewFile(uintptr(o.inner), "poll of a job's output")
		err = unix.EpollCtl(o.inner, unix.EPOLL_CTL_ADD, o.fd, &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	if err == nil {
		o.raw, err = o.poll.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(o.fd), o.poll.Close())
	}
	_ = stdout.Close()
	return o, nil
}

// SetReadDeadline makes later reads by the goroutine fail.
func (o *output) SetReadDeadline(t time.Time) error { return o.poll.SetReadDeadline(t) }

// ended says that the process has ended. What it wrote is in the pipe by now, but a descendant that
// left its group may keep the pipe open.
func (o *output) ended(grace time.Duration) { _ = o.SetReadDeadline(time.Now().Add(grace)) }

// Read waits in Go's poller for data. The goroutine uses it within a frame.
func (o *output) Read(b []byte) (n int, err error) {
	perr := o.raw.Read(func(uintptr) bool {
		n, err = o.now.Read(b)
		return err != unix.EAGAIN
	})
	if perr != nil {
		return 0, perr
	}
	return n, err
}

// Close closes the pipe. Only the reader goroutine calls it.
func (o *output) Close() error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.using.Lock()
	defer o.using.Unlock()
	return errors.Join(o.poll.Close(), unix.Close(o.fd))
}

// enlarge lets large frames pass with fewer switches between the two processes. It may fail.
func (o *output) enlarge() { _, _ = unix.FcntlInt(uintptr(o.fd), unix.F_SETPIPE_SZ, largePipe) }

// take gives a caller the reader role, if nobody has it.
func (o *output) take() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.role != noReader || o.closed || o.err != nil {
		return false
	}
	o.arm(false)
	o.role = callerReads
	o.using.Lock()
	return true
}

// arm makes inner watch the pipe, or only its end. It tells the goroutine at once about data that
// is there. mu is held.
func (o *output) arm(on bool) {
	if o.armed == on {
		return
	}
	o.armed = on
	// These calls cannot fail with open descriptors.
	if !on {
		_ = unix.EpollCtl(o.inner, unix.EPOLL_CTL_MOD, o.fd, &unix.EpollEvent{})
		return
	}
	// EPOLL_CTL_MOD would not report the data if inner has reported some before, and nobody has asked
	// inner since.
	_ = unix.EpollCtl(o.inner, unix.EPOLL_CTL_DEL, o.fd, nil)
	_ = unix.EpollCtl(o.inner, unix.EPOLL_CTL_ADD, o.fd, &unix.EpollEvent{Events: unix.EPOLLIN})
}

// listen makes sure that the goroutine hears of answers, now or when the caller that reads has
// ended.
func (o *output) listen() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.role == callerReads {
		o.wanted = true
		return
	}
	o.arm(true)
}

// giveBack gives up the goroutine's reader role.
func (o *output) giveBack() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.role = noReader
}

// await waits until data is buffered in frames, and returns with the reader role. Only the
// goroutine calls it.
func (o *output) await(frames *frame.Reader) (err error) {
	perr := o.raw.Read(func(uintptr) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.role == callerReads {
			o.wanted = true
			return false
		}
		if err = o.err; err == nil && frames.Buffered() == 0 {
			err = frames.Fill(o.now)
		}
		if err == unix.EAGAIN {
			return false
		}
		o.arm(true)
		o.role = goroutineReads
		return true
	})
	if perr != nil {
		return perr
	}
	return err
}

// receive waits a moment for answers and delivers them. It runs on the goroutine of a caller that
// has taken the reader role, which receive gives back. An error means that the process cannot
// continue.
func (o *output) receive(frames *frame.Reader, deliver func() error) error {
	fds := [1]unix.PollFd{{Fd: int32(o.fd), Events: unix.POLLIN}}
	timeout := unix.NsecToTimespec(int64(directWait))
	err := error(unix.EAGAIN)
	if n, perr := unix.Ppoll(fds[:], &timeout, nil); n > 0 && perr == nil {
		err = frames.Fill(o.now)
		for err == nil && frames.Buffered() > 0 && frames.Ready() {
			err = deliver()
		}
	}
	part := frames.Buffered() > 0
	o.using.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.role = noReader
	if err != nil && err != unix.EAGAIN && err != io.EOF { // the goroutine sees the end again
		o.err = err
	}
	if o.wanted || part || err != nil {
		o.arm(true)
	}
	o.wanted = false
	return o.err
}

// descriptor reads from a file descriptor without Go's poller.
type descriptor int

// Read reads from the descriptor. It returns EAGAIN if there is no data yet.
func (fd descriptor) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
