//go:build unix

package worker

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// guard kills the process groups of this host when this program is killed: a parent-death signal
// reaches the processes that the host started, but not those that they started. On Linux it also
// kills everything that carries a mark of the host's pools or is in the host's control groups, and
// removes the groups. It is a shell that waits for the end of its input.
type guard struct {
	host *Host

	starting sync.Mutex // held while the shell starts, when mu must be free: the host calls add

	mu     sync.Mutex
	groups map[int]bool
	marks  map[proctree.Mark]bool
	input  *os.File
	proc   *os.Process
	failed bool
	closed bool
}

const guardScript = `trap '' HUP INT QUIT TERM
groups=' '
everything= left= marks=
nl='
'
while read -r op id; do
	case $op in
	+) groups="$groups$id " ;;
	k) everything=$id ;;
	m) marks="$marks${id% *}$nl ${id#* } $nl" ;;
	u)
		id="${id% *}$nl ${id#* } $nl"
		marks="${marks%%"$id"*}${marks#*"$id"}"
		;;
	n) marks= ;;
	d) left="$left$id$nl" ;;
	-) case $groups in *" $id "*) groups="${groups%%" $id "*} ${groups#*" $id "}" ;; esac ;;
	esac
done
for id in $groups; do kill -KILL -"$id"; done 2>/dev/null
{
[ -z "$everything" ] || echo 1 >"$everything"
try=0
while [ -n "$marks" ] && [ $try -lt 20 ]; do
	marked=$(printf %s "$marks" | grep -lsF -f - /proc/[0-9]*/environ /proc/[0-9]*/limits)
	[ -n "$marked" ] || break
	for id in $marked; do
		id=${id#/proc/}
		kill -KILL "${id%/*}"
	done
	try=$((try + 1))
done
IFS=$nl
for id in $left; do
	try=0
	while [ -d "$id" ] && [ $try -lt 50 ]; do
		rmdir "$id"/*/ "$id" || sleep 0.1
		try=$((try + 1))
	done
done
} 2>/dev/null`

func newGuard(h *Host) *guard {
	return &guard{host: h, groups: map[int]bool{}, marks: map[proctree.Mark]bool{}}
}

// ready starts the shell, unless it runs. Call it before a process is started: otherwise this
// program could be killed while nothing would end the descendants of the process.
func (g *guard) ready() {
	g.starting.Lock()
	defer g.starting.Unlock()
	g.mu.Lock()
	needed := g.input == nil && !g.failed && !g.closed
	g.mu.Unlock()
	if !needed {
		return
	}
	input, proc, err := g.start()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil { // without a shell only the parent-death signal is left
		g.failed = true
		return
	}
	g.input, g.proc = input, proc
	for pid := range g.groups {
		g.tell("+", pid)
	}
	for m := range g.marks {
		g.tellMark("m", m)
	}
	kill, remove := g.host.cgroups.Left()
	if kill != "" {
		_, _ = input.WriteString("k " + kill + "\n")
	}
	if remove != "" {
		_, _ = input.WriteString("d " + remove + "\n")
	}
	if g.closed {
		g.stop()
	}
}

// add has the process's group killed when this program is killed.
func (g *guard) add(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.groups[pid] = true
	if !g.tell("+", pid) { // somebody killed the guard
		g.stop()
	}
}

// mark has everything that carries the mark killed, too.
func (g *guard) mark(m proctree.Mark) {
	if !proctree.Supported {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.marks[m] = true
	g.tellMark("m", m)
}

// unmark forgets a mark that no process carries any longer.
func (g *guard) unmark(m proctree.Mark) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.marks[m] {
		delete(g.marks, m)
		g.tellMark("u", m)
	}
}

// tellMark tells the shell a mark as it appears in environments and in limits. A shell that is
// started again is told again.
func (g *guard) tellMark(op string, m proctree.Mark) {
	if g.input != nil {
		_, _ = g.input.WriteString(op + " " + string(m) + " " + m.Limit() + "\n")
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

// start starts the shell.
func (g *guard) start() (input *os.File, proc *os.Process, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = r.Close() }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, errors.Join(err, w.Close())
	}
	defer func() { _ = null.Close() }()
	proc, err = g.host.startProcess("/bin/sh", []string{"sh", "-c", guardScript, "blueprint-process-guard"}, &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=" + DefaultPath}, Files: []*os.File{r, null, null},
		Sys: &syscall.SysProcAttr{Setpgid: true},
	}, nil)
	if err != nil {
		return nil, nil, errors.Join(err, w.Close())
	}
	return w, proc, nil
}

// stop ends the shell. mu is held.
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
	if g.input != nil {
		_, _ = g.input.WriteString("n -\n") // the pools have looked for what carries their marks
	}
	g.stop()
}
