//go:build unix

package worker

import (
	"os"
	"strconv"
	"sync"
	"syscall"
)

// guard kills the process groups of this host when the program itself is killed: a parent-death signal reaches the processes that the host
// started, but not those that they started. It is a shell that waits for the end of its input.
type guard struct {
	host *Host

	mu     sync.Mutex
	groups map[int]bool
	input  *os.File
	proc   *os.Process
	failed bool
	closed bool
}

const guardScript = `trap '' HUP INT QUIT TERM
groups=' '
while read -r op id; do
	case $op in
	+) groups="$groups$id " ;;
	-) case $groups in *" $id "*) groups="${groups%%" $id "*} ${groups#*" $id "}" ;; esac ;;
	esac
done
for id in $groups; do kill -KILL -"$id"; done 2>/dev/null`

func newGuard(h *Host) *guard { return &guard{host: h, groups: map[int]bool{}} }

func (g *guard) add(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.groups[pid] = true
	if g.input == nil {
		g.start()
		return
	}
	if !g.tell("+", pid) { // somebody killed the guard
		g.stop()
		g.start()
	}
}

func (g *guard) remove(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.groups, pid)
	g.tell("-", pid)
}

func (g *guard) tell(op string, pid int) bool {
	if g.input == nil {
		return true
	}
	_, err := g.input.WriteString(op + " " + strconv.Itoa(pid) + "\n")
	return err == nil
}

// start starts the shell and tells it all groups. A system without one has the parent-death signal alone.
func (g *guard) start() {
	if g.failed || g.closed {
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		g.failed = true
		return
	}
	defer func() { _ = r.Close() }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		g.failed = true
		_ = w.Close()
		return
	}
	defer func() { _ = null.Close() }()
	proc, err := g.host.startProcess("/bin/sh", []string{"sh", "-c", guardScript, "blueprint-process-guard"}, &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=" + defaultPath}, Files: []*os.File{r, null, null}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		g.failed = true
		_ = w.Close()
		return
	}
	g.input, g.proc = w, proc
	for pid := range g.groups {
		g.tell("+", pid)
	}
}

func (g *guard) stop() {
	if g.input == nil {
		return
	}
	_ = g.input.Close()
	_, _ = g.proc.Wait()
	g.input, g.proc = nil, nil
}

func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.stop()
}
