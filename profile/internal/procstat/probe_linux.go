package procstat

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probe measures the memory of a process.
//
// The system's account of an ended process (ru_maxrss) is not reliable by itself: the child runs in
// the parent's memory until it executes its program, and the kernel then counts the parent's
// largest size as the child's. So the account is exact only if it is above the parent's. For a
// smaller child, probe reads VmHWM, its own high-water mark, which only grows: the readings miss
// only what the process took between the last of them and its end.
type probe struct {
	status *os.File // nil without /proc
	parent uint64   // the largest size of this process

	mu     sync.Mutex // guards the fields below
	start  time.Time
	high   uint64
	latest time.Duration // when the last successful reading was
}

func newProbe(p *os.Process) *probe {
	probe := &probe{start: time.Now()}
	if f, err := os.Open("/proc/" + strconv.Itoa(p.Pid) + "/status"); err == nil {
		probe.status = f // stays bound to this process, even if its number is reused
	}
	if f, err := os.Open("/proc/self/status"); err == nil {
		probe.parent, _ = highWater(f)
		f.Close()
	}
	probe.sample()
	return probe
}

// watch reads until stop is closed, at growing intervals, so that the last reading is from the last
// tenth of the process's life or from its last 5 ms.
func (p *probe) watch(start time.Time, stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		p.sample()
		timer.Reset(min(max(time.Since(start)/10, 100*time.Microsecond), 5*time.Millisecond))
	}
}

func (p *probe) sample() {
	if p.status == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if high, ok := highWater(p.status); ok {
		p.high, p.latest = max(p.high, high), time.Since(p.start)
	}
}

// highWater reads VmHWM from an open /proc/PID/status, in bytes. An ended process has none.
func highWater(status *os.File) (uint64, bool) {
	var buf [2048]byte // the line is among the first twenty
	n, _ := status.ReadAt(buf[:], 0)
	_, rest, found := bytes.Cut(buf[:n], []byte("\nVmHWM:"))
	line, _, whole := bytes.Cut(rest, []byte(" kB"))
	if !found || !whole {
		return 0, false
	}
	kb, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
	return kb << 10, err == nil
}

func (p *probe) peak(state *os.ProcessState, duration time.Duration) (bytes uint64, upperBound bool) {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, false
	}
	account := uint64(max(usage.Maxrss, 0)) << 10
	p.mu.Lock()
	defer p.mu.Unlock()
	const blur = 1 << 20 // the kernel keeps counters per processor and adds them up late
	if account > p.parent+blur {
		return max(account, p.high), false
	}
	if p.high > 0 && p.latest >= duration/2 {
		return p.high, false
	}
	if p.high > 0 {
		// The life was too short for a reading near its end. A process cannot take memory faster than it
		// can write to it.
		const perSecond = 10 << 30
		gap := min(max(duration-p.latest, 0), time.Second)
		return min(account, p.high+uint64(gap)*perSecond/uint64(time.Second)), true
	}
	return account, true
}

func (p *probe) close() {
	if p.status != nil {
		p.status.Close()
	}
}

// awaitEnd waits until the process has ended, and does not reap it. It returns false if it cannot
// tell.
func awaitEnd(p *os.Process) bool {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
