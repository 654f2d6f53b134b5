package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// process is one running child with its own process group.
type process struct {
	host   *Host
	cfg    *Config
	mark   proctree.Mark // its own, in the environment alone: the pool's mark uses the limit
	pid    int
	proc   *os.Process
	stdin  *os.File
	stdout *os.File
	tail   logTail
	log    *logReader
	grace  time.Duration

	group    *cgroup.Group // nil if there is none
	limit    int64         // bytes, 0 for none
	most     int           // processes; 0 if the host need not watch them
	busy     atomic.Int32
	peak     atomic.Int64 // bytes
	starting atomic.Bool  // it has not said hello yet
	memOut   atomic.Bool  // killed for its memory
	tooMany  atomic.Bool  // killed for its number of processes
	hostRSS  int64        // peak of this program when the child started, see ownPeak

	killing sync.Mutex // held while the group is killed or the process reaped: a reused id is never killed
	end     *ending
	killed  bool
	reaped  bool
	exited  chan struct{} // closed when the process is reaped, its group killed and its standard error read
	state   *os.ProcessState
	undead  bool // it did not end when it was killed
}

// startProcess starts the configured binary with pipes on its three standard descriptors, and no
// other descriptor of this program. extra are further variables.
func startProcess(h *Host, c *Config, extra ...string) (*process, error) {
	p := &process{host: h, cfg: c, mark: proctree.New(), grace: c.Grace, limit: int64(c.MemoryMB) << 20,
		exited: make(chan struct{})}
	env := environment(c, p.mark, extra...)
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close(), outR.Close(), outW.Close())
	}
	if !h.Support().Processes {
		p.most = c.MaxTasks
	}
	h.guard.ready()
	if p.group, err = h.newGroup(c); err == nil {
		p.proc, err = h.startProcess(c.Path, append([]string{c.Path}, c.Args...), &os.ProcAttr{
			Dir: c.Dir, Env: env, Files: []*os.File{inR, outW, errW}, Sys: sysProcAttr(c, p.group),
		}, func(pid int) {
			_ = c.Mark.Put(pid) // before it starts others; the environment alone is a mark too
			h.guard.add(pid)
			p.setLimits(pid, c)
		})
	}
	for _, f := range []*os.File{inR, outW, errW} {
		_ = f.Close() // the child's ends
	}
	if err != nil {
		for _, f := range []*os.File{inW, outR, errR} {
			_ = f.Close()
		}
		p.group.Release()
		return nil, err
	}
	p.pid, p.stdin, p.stdout, p.end = p.proc.Pid, inW, outR, awaitable(p.proc)
	p.hostRSS = ownPeak() // by now the process executes its own program
	h.guard.ready()       // in case somebody killed it
	h.watch(p)
	p.log = newLogReader(errR, lineReader{pid: p.pid, log: c.Log, tail: &p.tail})
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		p.log.run()
	}()
	go p.reap(errR, logged)
	return p, nil
}

// startCause returns why a process could not be started, without the path of its binary, because
// callers may be elsewhere.
func startCause(err error) error {
	var failed *os.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// reap waits for the end of the process, kills what is left of its group, and closes exited when
// everything that it wrote has been read.
func (p *process) reap(stderr *os.File, logged <-chan struct{}) {
	state, ended := p.end.wait(p.proc)
	p.killing.Lock()
	killGroup(p.proc)
	if ended && state == nil {
		state, _ = p.proc.Wait()
	}
	p.state, p.reaped, p.undead = state, true, !ended
	killed := p.killed
	p.killing.Unlock()
	// If the process ended by itself, its strays end with the pool: looking for them takes longer than
	// a short call.
	if killed && ended {
		endMarked(p.mark)
	}
	p.host.guard.remove(p.pid)
	p.host.unwatch(p)
	// A descendant that left the group may still hold the pipes.
	_ = p.stdin.SetWriteDeadline(time.Now())
	interruptRead(p.stdout, p.grace)
	interruptRead(stderr, p.grace)
	<-logged
	_ = stderr.Close()
	if peak := childPeak(p.state); peak > p.hostRSS+peakSlack {
		p.notePeak(peak)
	}
	// The killed process may have been another one in the group.
	if p.limit > 0 && p.group.Limiting() && p.group.OutOfMemory() {
		p.memOut.Store(true)
	}
	p.group.Release()
	close(p.exited)
}

// peakSlack is more than the kernel's memory counters lag behind.
const peakSlack = 16 << 20

// interruptRead makes reads of f fail after grace. If pipes have no deadlines, it closes f then.
func interruptRead(f *os.File, grace time.Duration) {
	if err := f.SetReadDeadline(time.Now().Add(grace)); errors.Is(err, os.ErrNoDeadline) {
		time.AfterFunc(grace, func() { _ = f.Close() })
	}
}

// clearReadDeadline removes the deadline for the start, but not the one that reap sets.
func (p *process) clearReadDeadline() {
	_ = p.stdout.SetReadDeadline(time.Time{})
	p.killing.Lock()
	reaped := p.reaped
	p.killing.Unlock()
	if reaped {
		interruptRead(p.stdout, p.grace)
	}
}

// endWait is how long a killed process may take to end. Usually that is a moment, but a system call
// or a frozen group can hold a process for any time.
const endWait = 5 * time.Second

// kill ends the process and everything that it started. It may be called at any time and
// repeatedly.
func (p *process) kill() {
	p.killing.Lock()
	defer p.killing.Unlock()
	if p.reaped {
		return
	}
	p.killAll()
	if !p.killed {
		p.killed = true
		p.end.within(endWait)
	}
}

// collect reports whether a process that did not end when it was killed has ended since. If so, it
// reaps the process.
func (p *process) collect() bool {
	p.end = awaitable(p.proc)
	p.end.within(0)
	_, ended := p.end.wait(p.proc)
	if ended {
		_, _ = p.proc.Wait()
	}
	return ended
}

func (p *process) notePeak(bytes int64) {
	for {
		old := p.peak.Load()
		if bytes <= old || p.peak.CompareAndSwap(old, bytes) {
			return
		}
	}
}

func (p *process) peakMB() uint32 {
	const mib = 1 << 20
	return uint32((p.peak.Load() + mib - 1) / mib)
}

// checkMemory notes the memory in use, and kills the process if it exceeds a limit that the kernel
// does not enforce. With descendants, it includes everything in the control group of the process
// or, without a group, the processes that descend from it.
func (p *process) checkMemory(descendants bool) {
	used, processes := measureTree(p.pid, descendants, p.group, p.most)
	p.killing.Lock()
	reaped := p.reaped
	p.killing.Unlock()
	if reaped { // another process may use the group by now
		return
	}
	p.notePeak(used)
	kernel := p.group.Limiting()
	switch {
	case kernel && descendants && p.group.OutOfMemory(), !kernel && p.limit > 0 && used > p.limit:
		p.memOut.Store(true)
	case p.most > 0 && processes > p.most:
		p.tooMany.Store(true)
	default:
		return
	}
	p.kill()
}

// goPanic is the exit code of a Go program that cannot continue.
const goPanic = 2

// failure describes how the process ended. Call it after exited is closed.
func (p *process) failure() *faas.FunctionError {
	e := &faas.FunctionError{Type: "exit", LogTail: p.tail.String()}
	sig, signaled := "", false
	if p.state != nil {
		e.ExitCode = max(p.state.ExitCode(), 0)
		sig, signaled = signalOf(p.state)
	}
	overLimit := p.limit > 0 && p.peak.Load() > p.limit
	switch {
	case p.undead:
		e.Type, e.Message = "killed", fmt.Sprintf("the process %d was killed and has not ended for %v: the system holds it",
			p.pid, endWait)
	case p.tooMany.Load():
		e.Type, e.Message = "too many processes", fmt.Sprintf(
			"the process and what it started became more than their limit of %d processes and threads and were killed", p.most)
	case p.memOut.Load(), overLimit && (signaled || e.ExitCode != 0):
		e.Type, e.Message = "out of memory", fmt.Sprintf("the process reached its limit of %d MiB of memory and was killed",
			p.limit>>20)
	case signaled:
		e.Type, e.Message = "killed", "the process was ended by signal: "+sig
	case e.ExitCode == goPanic && p.tail.reason() != "":
		e.Type, e.Message = "panic", p.tail.reason()
	case e.ExitCode != 0:
		e.Message = "the process exited before it answered"
	default:
		e.Message = "the process ended with exit code 0 before it answered"
	}
	return e
}

// environment adds the variables that programs cannot do without, and the marks. c.Env already has
// a mark if this program itself runs under a mark.
func environment(c *Config, mark proctree.Mark, extra ...string) []string {
	env := append(baseEnvironment(absolute(c.TempDir)), c.Env...)
	return mark.AddTo(c.Mark.AddTo(dedupe(append(env, extra...))))
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// dedupe keeps the last value of each name.
func dedupe(env []string) []string {
	last := make(map[string]int, len(env))
	for i, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		last[name] = i
	}
	kept := env[:0:0]
	for i, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); last[name] == i {
			kept = append(kept, kv)
		}
	}
	return kept
}
