package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tree is this program's part of the hierarchy.
type tree struct {
	base              string // the directory that holds the groups
	memory, pids, cpu bool   // the controllers in use
}

// Root makes groups. Its methods are safe for concurrent use; Support, Left and Close also work on
// a nil Root, which has no groups.
type Root struct {
	cfg  Config
	sys  system
	tree tree
	undo func()

	seq     atomic.Uint64
	waiting sync.WaitGroup // for groups to become empty

	mu     sync.Mutex
	free   []*Group // empty ones, for the next processes
	closed bool
}

// maxFree is how many empty groups are kept for the next processes.
const maxFree = 32

// Open finds out once what this program can use, and makes the directory of the groups. The error
// wraps ErrUnavailable if this program cannot make groups and start processes in them, which takes
// Linux 5.7.
func Open(cfg Config) (*Root, error) { return open(cfg, thisSystem()) }

func open(cfg Config, sys system) (*Root, error) {
	p, err := sys.place()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	wanted := []string{"memory", "pids"}
	if cfg.CPU {
		wanted = append(wanted, "cpu")
	}
	t, undo, err := sys.choose(p, cfg.Name, wanted)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r := &Root{cfg: cfg, sys: sys, tree: t, undo: undo}
	if err := r.try(); err != nil {
		_ = os.Remove(t.base)
		undo()
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return r, nil
}

// try makes a group with limits, and sees whether a process can be started in it.
func (r *Root) try() error {
	dir := filepath.Join(r.tree.base, "try")
	defer func() { _ = os.Remove(dir) }()
	if err := r.sys.makeBase(dir); err != nil {
		return err
	}
	if err := r.tree.limit(dir, Limits{MemoryBytes: 64 << 20, Processes: 64, CPUs: 1}); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if !r.sys.startable(int(f.Fd()), dir) {
		return errors.New("no process can be started in a group (clone3 of Linux 5.7)")
	}
	return nil
}

// startsInside has the kernel start a program that does not exist in the group. If the error is
// that the program does not exist, everything else works.
func startsInside(fd int, dir string) bool {
	p, err := os.StartProcess(filepath.Join(dir, "no-such-program"), nil,
		&os.ProcAttr{Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}})
	if err == nil { // the kernel killed it before it could fail, see asNew
		_, _ = p.Wait()
	}
	return errors.Is(err, fs.ErrNotExist)
}

// Support says which limits the groups hold.
func (r *Root) Support() Support {
	if r == nil {
		return Support{}
	}
	return Support{Memory: r.tree.memory, Processes: r.tree.pids, CPU: r.tree.cpu, Kill: true}
}

// Left returns what another program has to do if this one is killed: write "1" to the file kill,
// which kills every process (empty before Linux 5.14), then remove the directory and those in it.
func (r *Root) Left() (kill, remove string) {
	if r == nil {
		return "", ""
	}
	if name := filepath.Join(r.tree.base, "cgroup.kill"); exists(name) {
		kill = name
	}
	return kill, r.tree.base
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Clean kills and removes the groups that a killed program left: the directories whose names begin
// with prefix, which nobody else may use. It believes no file. It looks only where [Open] of this
// program would make them: in this program's group and the groups above it.
func Clean(prefix string) { clean(prefix, thisSystem()) }

func clean(prefix string, sys system) {
	p, err := sys.place()
	if err != nil || prefix == "" {
		return
	}
	for dir := p.own; ; dir = filepath.Dir(dir) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			base := filepath.Join(dir, e.Name())
			if e.IsDir() && strings.HasPrefix(e.Name(), prefix) && isControlGroup(base) &&
				!strings.HasPrefix(p.own+"/", base+"/") {
				removeTree(base)
			}
		}
		if dir == p.mount || dir == filepath.Dir(dir) {
			return
		}
	}
}

// isControlGroup reports whether dir is on the kernel's file system of control groups.
func isControlGroup(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC
}

// removeTree kills every process in the group and in those inside it, and removes the groups.
func removeTree(base string) {
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
		if removeOnce(base) {
			return
		}
		time.Sleep(wait) // the kernel needs time to remove killed processes
	}
}

func removeOnce(dir string) bool {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeOnce(filepath.Join(dir, e.Name()))
		}
	}
	err := os.Remove(dir)
	if errors.Is(err, unix.EBUSY) {
		killAll(dir, false)
		err = os.Remove(dir)
	}
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// killAll kills every process in the group. If the kernel cannot kill a group and pids is set, it
// first keeps the group from growing.
func killAll(dir string, pids bool) {
	if write(dir, "cgroup.kill", "1") == nil {
		return
	}
	if pids {
		_ = write(dir, "pids.max", "0")
	}
	self := strconv.Itoa(os.Getpid())
	for range 100 {
		list := words(dir, "cgroup.procs")
		if len(list) == 0 {
			return
		}
		for _, text := range list {
			if id, err := strconv.Atoi(text); err == nil && id > 0 && text != self {
				_ = syscall.Kill(id, syscall.SIGKILL)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// cpuPeriod is the period over which the kernel shares processor time, in microseconds. It is the
// kernel's default.
const cpuPeriod = 100_000

// limit writes the limits of a new group.
func (t *tree) limit(dir string, l Limits) error {
	optional := func(err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	var errs []error
	if t.memory && l.MemoryBytes > 0 {
		errs = append(errs, write(dir, "memory.max", strconv.FormatInt(l.MemoryBytes, 10)),
			optional(write(dir, "memory.oom.group", "1")), optional(write(dir, "memory.swap.max", "0")))
	}
	if t.pids && l.Processes > 0 {
		errs = append(errs, write(dir, "pids.max", strconv.Itoa(l.Processes)))
	}
	if t.cpu && l.CPUs > 0 {
		quota := max(int64(l.CPUs*cpuPeriod), 1000) // the kernel takes no less than a millisecond
		errs = append(errs, write(dir, "cpu.max", fmt.Sprintf("%d %d", quota, cpuPeriod)))
	}
	return errors.Join(errs...)
}

// NewGroup returns an empty group with the limits.
func (r *Root) NewGroup(l Limits) (*Group, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, fmt.Errorf("%w: they are closed", ErrUnavailable)
	}
	for i := len(r.free) - 1; i >= 0; i-- {
		if g := r.free[i]; g.limits == l {
			r.free = append(r.free[:i], r.free[i+1:]...)
			r.mu.Unlock()
			return g, g.begin()
		}
	}
	r.mu.Unlock()
	name := "w" + strconv.FormatUint(r.seq.Add(1), 10)
	g := &Group{root: r, limits: l, dir: filepath.Join(r.tree.base, name)}
	err := g.make()
	if err == nil {
		err = g.begin()
	}
	if err != nil {
		g.remove()
		return nil, fmt.Errorf("control group %s: %w", filepath.Join(r.cfg.Name, name), err)
	}
	return g, nil
}

// giveBack keeps a group for the next process if it is as new, and removes it otherwise.
func (r *Root) giveBack(g *Group, empty bool) {
	asNew := empty && g.asNew()
	g.end()
	r.mu.Lock()
	keep := !r.closed && len(r.free) < maxFree && asNew
	if keep {
		r.free = append(r.free, g)
	}
	r.mu.Unlock()
	if !keep {
		g.remove()
	}
}

// Close kills every process that is left in a group and removes all groups.
func (r *Root) Close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	free := r.free
	r.free = nil
	r.mu.Unlock()
	r.waiting.Wait()
	for _, g := range free {
		g.remove()
	}
	removeTree(r.tree.base)
	r.undo()
	if exists(r.tree.base) {
		return fmt.Errorf("control group %s cannot be removed", r.tree.base)
	}
	return nil
}
