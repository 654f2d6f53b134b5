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

// output is the standard output of a warm process, and decides who reads it: the reader goroutine, which waits in Go's network poller with all others, or the caller
// of the only call in flight, which waits on its own thread. The latter takes a third of the time, since no goroutine has to be woken, but the thread is blocked
// meanwhile, so that it waits only for a moment and leaves the rest to the goroutine.
//
// The pipe is not registered with Go's poller, or each answer to such a caller would wake the thread in the poller, too, for nothing. Between the two is an epoll instance,
// which looks at the pipe only while the goroutine waits for it.
type output struct {
	fd    int      // of the pipe
	inner int      // the epoll instance
	poll  *os.File // the same
	raw   syscall.RawConn
	now   io.Reader // of fd, without waiting

	using sync.Mutex // held while a caller uses fd, so that it is not closed meanwhile

	mu     sync.Mutex
	role   readerRole
	armed  bool // inner looks at the pipe
	wanted bool // the goroutine is to read when the caller with the role has ended
	closed bool
	err    error // what a caller found that ends the reading
}

type readerRole int

const (
	noReader readerRole = iota
	callerReads
	goroutineReads
)

// directWait is the longest that a caller waits on its own thread. It is longer than a tick of the kernel's clock, so that setting it does not reprogram the hardware's
// timer for every call, which costs more than all the rest where that is a virtual one.
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

// SetReadDeadline makes reads by the goroutine fail from then on.
func (o *output) SetReadDeadline(t time.Time) error { return o.poll.SetReadDeadline(t) }

// ended says that the process has ended. What it wrote is there by now, but a descendant that left its group may keep the pipe open.
func (o *output) ended(grace time.Duration) { _ = o.SetReadDeadline(time.Now().Add(grace)) }

// Read waits in Go's poller until there is something, as the goroutine does within a frame.
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

// Close closes the pipe. It is the reader goroutine's.
func (o *output) Close() error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.using.Lock()
	defer o.using.Unlock()
	return errors.Join(o.poll.Close(), unix.Close(o.fd))
}

// enlarge makes large frames pass with fewer switches between the two processes. It is a wish.
func (o *output) enlarge() { _, _ = unix.FcntlInt(uintptr(o.fd), unix.F_SETPIPE_SZ, largePipe) }

// take gives a caller the role, if nobody has it.
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

// arm makes inner look at the pipe, or only at its end. It tells the goroutine at once of what there is. mu is held.
func (o *output) arm(on bool) {
	if o.armed == on {
		return
	}
	o.armed = on
	// None of these can fail with descriptors that are open.
	if !on {
		_ = unix.EpollCtl(o.inner, unix.EPOLL_CTL_MOD, o.fd, &unix.EpollEvent{})
		return
	}
	// A change would not tell of what is there if inner has told of something before, and nobody has asked inner since.
	_ = unix.EpollCtl(o.inner, unix.EPOLL_CTL_DEL, o.fd, nil)
	_ = unix.EpollCtl(o.inner, unix.EPOLL_CTL_ADD, o.fd, &unix.EpollEvent{Events: unix.EPOLLIN})
}

// listen makes sure that the goroutine hears of answers, now or when the caller that reads has ended.
func (o *output) listen() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.role == callerReads {
		o.wanted = true
		return
	}
	o.arm(true)
}

// giveBack ends the role of the goroutine.
func (o *output) giveBack() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.role = noReader
}

// await waits until something is buffered in frames, and returns with the role. It is the goroutine's.
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

// receive waits a moment for answers and has them delivered, on the goroutine of a caller that has taken the role, which receive gives back. An error says
// that the process cannot go on.
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
	if err != nil && err != unix.EAGAIN && err != io.EOF { // the end is seen again
		o.err = err
	}
	if o.wanted || part || err != nil {
		o.arm(true)
	}
	o.wanted = false
	return o.err
}

// descriptor reads from a file descriptor without Go's poller; there may be nothing yet.
type descriptor int

// Read reads from the descriptor.
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
