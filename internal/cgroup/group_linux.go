package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Group holds one process and all that it starts.
type Group struct {
	root   *Root
	limits Limits
	name   string
	inside *os.File // the directory of the unified hierarchy; nil: none into which processes are started

	mu       sync.Mutex
	killed   bool          // not to be used again, see asNew
	timer    *time.Timer   // until the process is moved
	moved    chan struct{} // closed when it is, nil if it is not to be
	limiting atomic.Bool
}

func (g *Group) dir(t *tree) string { return filepath.Join(t.base, g.name) }

func (g *Group) make() error {
	for i := range g.root.trees {
		t := &g.root.trees[i]
		err := g.root.sys.mkdir(g.dir(t))
		if errors.Is(err, fs.ErrNotExist) { // somebody has removed what looked unused
			if err = g.root.sys.makeBase(t.base); err == nil {
				err = g.root.sys.mkdir(g.dir(t))
			}
		}
		if err == nil {
			err = t.limit(g.dir(t), g.limits)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin makes the group ready for a process.
func (g *Group) begin() (err error) {
	if g.root.inside {
		g.inside, err = os.Open(g.dir(&g.root.trees[0]))
	}
	g.limiting.Store(g.inside != nil && g.root.trees[0].memory) // from its first instruction
	return err
}

// end is the end of begin. An empty group costs no descriptor.
func (g *Group) end() {
	if g.inside != nil {
		_ = g.inside.Close()
		g.inside = nil
	}
}

// FD returns the descriptor into which a process is to be started (SysProcAttr.CgroupFD), if that is possible.
func (g *Group) FD() (int, bool) {
	if g == nil || g.inside == nil {
		return -1, false
	}
	return int(g.inside.Fd()), true
}

// moveDelay is after how long a process is moved into the groups of version 1. To move one takes the kernel up to 15 ms and is of no use for a process that has ended by then.
const moveDelay = 5 * time.Millisecond

// Join has the process, which was started with FD, moved into the groups into which it could not be started, with what it has started since. It does not wait for that.
func (g *Group) Join(pid int) {
	if g == nil || g.inside != nil && len(g.root.trees) == 1 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	moved := make(chan struct{})
	g.moved = moved
	g.timer = time.AfterFunc(moveDelay, func() {
		defer close(moved)
		g.move(strconv.Itoa(pid))
	})
}

// move moves the process first, so that what it starts from then on is where it is.
func (g *Group) move(pid string) {
	pids := []string{pid}
	for range 3 {
		for i := range g.root.trees {
			if i == 0 && g.inside != nil {
				continue
			}
			for _, id := range pids {
				_ = write(g.dir(&g.root.trees[i]), "cgroup.procs", id) // it may have ended
			}
		}
		if g.inside == nil {
			break // what else there is cannot be told
		}
		there := words(g.dir(&g.root.trees[len(g.root.trees)-1]), "cgroup.procs")
		pids = slices.DeleteFunc(words(g.dir(&g.root.trees[0]), "cgroup.procs"),
			func(id string) bool { return slices.Contains(there, id) })
		if len(pids) == 0 {
			break
		}
	}
	g.limiting.Store(g.root.holds("memory"))
}

// Settle returns when no move is under way any more. It has to be called before the process that joined is waited for, so that no other one with its number is moved.
func (g *Group) Settle() {
	if g == nil {
		return
	}
	g.mu.Lock()
	timer, moved := g.timer, g.moved
	g.timer, g.moved = nil, nil
	g.mu.Unlock()
	if moved != nil && !timer.Stop() {
		<-moved
	}
}

// Limiting says whether the kernel holds the process to its memory.
func (g *Group) Limiting() bool { return g != nil && g.limiting.Load() }

// Kill kills everything in the group.
func (g *Group) Kill() {
	if g == nil || len(g.root.trees) == 0 {
		return
	}
	dir, pids := g.dir(&g.root.trees[0]), ""
	for i := range g.root.trees {
		if g.root.trees[i].pids {
			pids = g.dir(&g.root.trees[i])
		}
	}
	g.mu.Lock()
	g.killed = true
	g.mu.Unlock()
	killAll(dir, pids)
}

// OutOfMemory says whether the kernel killed something in the group because of its memory.
func (g *Group) OutOfMemory() bool {
	if g == nil {
		return false
	}
	for i := range g.root.trees {
		t := &g.root.trees[i]
		switch {
		case t.memory && t.v2:
			return count(g.dir(t), "memory.events", "oom_kill") > 0
		case t.memory:
			return count(g.dir(t), "memory.oom_control", "oom_kill") > 0
		}
	}
	return false
}

func (g *Group) empty() bool {
	for i := range g.root.trees {
		t := &g.root.trees[i]
		if t.v2 {
			if count(g.dir(t), "cgroup.events", "populated") > 0 { // also where a process has made groups of its own
				return false
			}
			if g.inside != nil {
				return true // nothing is in the others alone
			}
		} else if len(words(g.dir(t), "cgroup.procs")) > 0 {
			return false
		}
	}
	return true
}

// Release kills what is left in the group and gives the group back. It is called once the process that joined was waited for, and the group not used after that.
func (g *Group) Release() {
	if g == nil {
		return
	}
	empty := g.empty()
	if !empty {
		g.Kill()
	}
	g.root.waiting.Go(func() {
		for wait := time.Millisecond; !empty && wait < 5*time.Second; wait *= 2 {
			time.Sleep(wait) // the kernel takes its time to let a process go
			empty = g.empty()
		}
		g.root.giveBack(g, empty)
	})
}

// asNew says whether the next process finds the group as if it were new. What was left in shared memory is still counted. Where everything was killed, the number of
// processes may be limited to 0, and Linux up to 6.18 at least kills what is started in the group from then on: it compares how often that has been done to the group
// with how often to that of the parent (cgroup_css_set_fork takes kill_seq before it knows the group).
func (g *Group) asNew() bool {
	g.mu.Lock()
	killed := g.killed
	g.mu.Unlock()
	if killed || g.OutOfMemory() {
		return false
	}
	for i := range g.root.trees {
		t := &g.root.trees[i]
		if !t.memory || g.limits.MemoryBytes == 0 {
			continue
		}
		name := "memory.usage_in_bytes"
		if t.v2 {
			name = "memory.current"
		}
		w := words(g.dir(t), name)
		if len(w) != 1 {
			return false
		}
		if used, err := strconv.ParseInt(w[0], 10, 64); err != nil || used > g.limits.MemoryBytes/8 {
			return false
		}
	}
	return true
}

// remove removes the group's directories. What cannot be goes with the root.
func (g *Group) remove() {
	g.end()
	for i := range g.root.trees {
		_ = os.Remove(g.dir(&g.root.trees[i]))
	}
}
