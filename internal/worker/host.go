package worker

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

// Host starts processes and watches their memory. All of them end with the program: on Linux at
// once, by the kernel's parent-death signal, and on other systems when they see the end of their
// standard input.
type Host struct {
	starts  chan *startRequest
	done    chan struct{}
	wg      sync.WaitGroup
	inherit []*os.File // nil entries that close, in the child, what this program inherited
	guard   *guard
	cgroups *cgroup.Root // nil if there are none

	maxProcesses int // see makeRoom

	mu        sync.Mutex
	pools     map[*Pool]bool
	processes []*process // those whose memory is watched
	watching  bool
	closed    bool
}

type startRequest struct {
	path string
	argv []string
	attr *os.ProcAttr
	then func(pid int) // called when the process exists, before it does anything if the system allows that
	proc *os.Process
	err  error
	done chan struct{}
}

var errHostClosed = errors.New("the process host is closed")

// HostConfig configures a [Host].
type HostConfig struct {
	// Cgroups makes a control group for every process. It is closed after the host. Nil means that the
	// host watches limits itself.
	Cgroups *cgroup.Root
	// NoNewPrivileges, on Linux, keeps programs such as sudo from giving the processes more rights
	// than they were started with.
	NoNewPrivileges bool
}

// NewHost returns a host without control groups. Close it after the pools that use it.
func NewHost() *Host { return NewConfinedHost(HostConfig{}) }

// NewConfinedHost returns a host. Close it after the pools that use it.
func NewConfinedHost(c HostConfig) *Host {
	h := &Host{starts: make(chan *startRequest), done: make(chan struct{}), inherit: inheritedDescriptors(),
		cgroups: c.Cgroups}
	h.guard = newGuard(h)
	h.wg.Add(1)
	go h.run(c.NoNewPrivileges)
	if c.Cgroups != nil {
		h.wg.Go(h.guard.ready) // there is something to remove already
	}
	return h
}

// Support says which limits the host's control groups hold.
func (h *Host) Support() cgroup.Support { return h.cgroups.Support() }

// run starts processes from one thread that lives as long as the host: the parent-death signal
// comes when the thread that forked ends, not the program.
func (h *Host) run(noNewPrivileges bool) {
	defer h.wg.Done()
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if noNewPrivileges {
		forbidNewPrivileges()
	}
	for {
		select {
		case r := <-h.starts:
			if r.then == nil {
				r.proc, r.err = os.StartProcess(r.path, r.argv, r.attr)
			} else {
				r.proc, r.err = startHeld(r.path, r.argv, r.attr, r.then)
			}
			close(r.done)
		case <-h.done:
			return
		}
	}
}

// startProcess starts a process and calls then with its id. then must not start a process.
func (h *Host) startProcess(path string, argv []string, attr *os.ProcAttr, then func(pid int)) (*os.Process, error) {
	attr.Files = append(attr.Files, h.inherit...)
	for attempt := 1; ; attempt++ {
		proc, err := h.startOnce(path, argv, attr, then)
		// A child forked while another goroutine writes this executable holds it open for writing until
		// the child executes its own program.
		if !errors.Is(err, errTextBusy) || attempt == 100 {
			return proc, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (h *Host) startOnce(path string, argv []string, attr *os.ProcAttr, then func(pid int)) (*os.Process, error) {
	r := &startRequest{path: path, argv: argv, attr: attr, then: then, done: make(chan struct{})}
	select {
	case h.starts <- r:
		<-r.done
		return r.proc, r.err
	case <-h.done:
		return nil, errHostClosed
	}
}

// Close ends the host. Processes that still run are the caller's mistake; on Linux they are killed
// with the thread.
func (h *Host) Close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
	h.mu.Unlock()
	h.wg.Wait()
	h.guard.close()
}

// endPool ends what is left of a pool whose processes have ended, and returns how many processes
// did not end. If none is left, the guard forgets the pool's mark.
func (h *Host) endPool(c *Config) (left int) {
	if left = c.endStrays(); left == 0 {
		h.guard.unmark(c.Mark)
	}
	return left
}

// newGroup returns a control group for a process, or nil if the host has none.
func (h *Host) newGroup(c *Config) (*cgroup.Group, error) {
	if h.cgroups == nil {
		return nil, nil
	}
	return h.cgroups.NewGroup(cgroup.Limits{MemoryBytes: int64(c.MemoryMB) << 20, Processes: c.MaxTasks, CPUs: c.CPUs})
}

// memoryInterval is how often the memory of processes that run calls is measured.
const memoryInterval = 20 * time.Millisecond

func (h *Host) watch(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes = append(h.processes, p)
	if !h.watching && !h.closed {
		h.watching = true
		h.wg.Add(1)
		go h.watchMemory()
	}
}

func (h *Host) unwatch(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.processes, p); i >= 0 {
		h.processes = slices.Delete(h.processes, i, i+1)
	}
}

// watchMemory is one goroutine for all processes, so that a thousand idle ones cost only a look at
// a counter.
func (h *Host) watchMemory() {
	defer h.wg.Done()
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	var list []*process
	for tick := 0; ; tick++ {
		h.mu.Lock()
		if len(h.processes) == 0 || h.closed {
			h.watching = false
			h.mu.Unlock()
			return
		}
		list = append(list[:0], h.processes...)
		h.mu.Unlock()
		for _, p := range list {
			if p.busy.Load() > 0 || tick%50 == 0 {
				p.checkMemory(tick%5 == 0)
			}
		}
		clear(list)
		select {
		case <-ticker.C:
		case <-h.done:
			h.mu.Lock()
			h.watching = false
			h.mu.Unlock()
			return
		}
	}
}
