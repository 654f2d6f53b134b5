package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Group holds one process and its descendants. The methods of a nil Group do nothing.
type Group struct {
	root   *Root
	limits Limits
	dir    string
	file   *os.File // the directory, while a process uses the group

	mu     sync.Mutex
	killed bool // see asNew
}

func (g *Group) make() error {
	err := g.root.sys.mkdir(g.dir)
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the parent, which looked unused
		if err = g.root.sys.makeBase(filepath.Dir(g.dir)); err == nil {
			err = g.root.sys.mkdir(g.dir)
		}
	}
	if err == nil {
		err = g.root.tree.limit(g.dir, g.limits)
	}
	return err
}

// begin prepares the group for a process.
func (g *Group) begin() (err error) {
	g.file, err = os.Open(g.dir)
	return err
}

// end undoes begin: an empty group costs no descriptor.
func (g *Group) end() {
	if g.file != nil {
		_ = g.file.Close()
		g.file = nil
	}
}

// FD returns the descriptor with which a process starts in the group (SysProcAttr.CgroupFD). It
// reports false for a nil Group.
func (g *Group) FD() (int, bool) {
	if g == nil || g.file == nil {
		return -1, false
	}
	return int(g.file.Fd()), true
}

// Limiting reports whether the kernel enforces the memory limit of the group.
func (g *Group) Limiting() bool { return g != nil && g.root.tree.memory }

// Processes returns the ids of the processes in the group.
func (g *Group) Processes() (ids []int) {
	if g == nil {
		return nil
	}
	for _, text := range words(g.dir, "cgroup.procs") {
		if id, err := strconv.Atoi(text); err == nil && id > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// Kill kills every process in the group.
func (g *Group) Kill() {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.killed = true
	g.mu.Unlock()
	killAll(g.dir, g.root.tree.pids)
}

// OutOfMemory reports whether the kernel killed a process in the group because of its memory.
func (g *Group) OutOfMemory() bool {
	return g.Limiting() && count(g.dir, "memory.events", "oom_kill") > 0
}

// empty reports whether no process is in the group or in a group that a process made inside it.
func (g *Group) empty() bool { return count(g.dir, "cgroup.events", "populated") == 0 }

// Release kills the processes that are left in the group and gives the group back. Call it after
// the wait for the process that was started in the group, and do not use the group afterwards.
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
			time.Sleep(wait) // the kernel needs time to remove a process
			empty = g.empty()
		}
		g.root.giveBack(g, empty)
	})
}

// asNew reports whether the next process would find the group as if it were new. Shared memory that
// earlier processes left still counts. A group that was killed is not as new: its number of
// processes may be limited to 0, and Linux (up to 6.18 at least) kills what starts in it from then
// on, because it compares how often the group was killed with how often its parent was
// (cgroup_css_set_fork takes kill_seq before it knows the group).
func (g *Group) asNew() bool {
	g.mu.Lock()
	killed := g.killed
	g.mu.Unlock()
	if killed || g.OutOfMemory() {
		return false
	}
	if !g.Limiting() || g.limits.MemoryBytes == 0 {
		return true
	}
	w := words(g.dir, "memory.current")
	if len(w) != 1 {
		return false
	}
	used, err := strconv.ParseInt(w[0], 10, 64)
	return err == nil && used <= g.limits.MemoryBytes/8
}

// remove removes the group's directory. If the kernel refuses, the root's removal includes it.
func (g *Group) remove() {
	g.end()
	_ = os.Remove(g.dir)
}
