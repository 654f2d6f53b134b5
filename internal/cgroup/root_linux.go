package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tree is the part of one hierarchy that is this program's own.
type tree struct {
	base              string // has a directory for every group
	v2                bool
	memory, pids, cpu bool // the controllers that are used
}

// Root makes groups. All methods are safe for concurrent use; those of a nil Root are those of one that has none.
type Root struct {
	cfg    Config
	sys    system
	trees  []tree // the unified one, if any, is first
	inside bool
	undo   func()

	seq     atomic.Uint64
	waiting sync.WaitGroup // for groups to become empty

	mu     sync.Mutex
	free   []*Group // empty, to be used again
	closed bool
}

// maxFree is how many empty groups are kept for the next processes.
const maxFree = 32

// Open looks once what can be used here, and makes the directories. The error wraps ErrUnavailable where
// nothing can be.
func Open(cfg Config) (*Root, error) { return open(cfg, thisSystem()) }

func open(cfg Config, sys system) (*Root, error) {
	places, err := sys.places()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r := &Root{cfg: cfg, sys: sys, undo: func() {}}
	wanted := []string{"memory", "pids"}
	if cfg.CPU {
		wanted = append(wanted, "cpu")
	}
	var why []error
	if p, ok := places[""]; ok {
		t, undo, err := sys.chooseUnified(p, cfg.Name, wanted)
		if err == nil {
			r.trees, r.undo = append(r.trees, t), undo
		} else {
			why = append(why, err)
		}
	}
	for _, c := range wanted {
		p, ok := places[c]
		if !ok || p.v2 || r.holds(c) {
			continue
		}
		base := filepath.Join(p.own, cfg.Name)
		// one hierarchy may have several controllers
		i := slices.IndexFunc(r.trees, func(t tree) bool { return t.base == base })
		if i < 0 {
			if err := sys.makeBase(base); err != nil {
				why = append(why, err)
				continue
			}
			i = len(r.trees)
			r.trees = append(r.trees, tree{base: base})
		}
		t := &r.trees[i]
		t.memory, t.pids, t.cpu = t.memory || c == "memory", t.pids || c == "pids", t.cpu || c == "cpu"
	}
	r.try(&why)
	if len(r.trees) == 0 {
		err := fmt.Errorf("%w: %w", ErrUnavailable,
			errors.Join(append(why, errors.New("no hierarchy is mounted that has this program's group"))...))
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Root) holds(controller string) bool {
	for _, t := range r.trees {
		if controller == "memory" && t.memory || controller == "pids" && t.pids || controller == "cpu" && t.cpu {
			return true
		}
	}
	return false
}

// try drops the trees in which no group with limits can be made, and looks whether processes can be started in one.
func (r *Root) try(why *[]error) {
	var good []tree
	for _, t := range r.trees {
		dir := filepath.Join(t.base, "try")
		err := r.sys.makeBase(dir)
		if err == nil {
			err = t.limit(dir, Limits{MemoryBytes: 64 << 20, Processes: 64, CPUs: 1})
		}
		if err == nil && t.v2 {
			if f, oerr := os.Open(dir); oerr == nil {
				r.inside = r.sys.startable(int(f.Fd()), dir)
				_ = f.Close()
			}
		}
		_ = os.Remove(dir)
		if err != nil {
			*why = append(*why, err)
			_ = os.Remove(t.base)
			continue
		}
		good = append(good, t)
	}
	r.trees = good
}

// startsInside has the kernel try to start a program that does not exist in the group. That its absence is what fails says that the rest does not.
func startsInside(fd int, dir string) bool {
	p, err := os.StartProcess(filepath.Join(dir, "no-such-program"), nil,
		&os.ProcAttr{Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}})
	if err == nil { // it was killed before it could fail, see asNew
		_, _ = p.Wait()
	}
	return errors.Is(err, fs.ErrNotExist)
}

// Support says which limits are held.
func (r *Root) Support() (s Support) {
	if r == nil {
		return s
	}
	for _, t := range r.trees {
		v := V1
		if t.v2 {
			v = V2
		}
		for _, c := range []struct {
			has  bool
			into *Version
		}{{t.memory, &s.Memory}, {t.pids, &s.Processes}, {t.cpu, &s.CPU}} {
			if c.has {
				*c.into = v
			}
		}
	}
	s.Kill, s.Inside = len(r.trees) > 0, r.inside
	return s
}

// Left says what is to be removed when this program no longer can: files that kill all when "1" is written to them (there are none before Linux 5.14), and the directories
// that then have to go, with those in them.
func (r *Root) Left() (kill, remove []string) {
	if r == nil {
		return nil, nil
	}
	for _, t := range r.trees {
		remove = append(remove, t.base)
		if name := filepath.Join(t.base, "cgroup.kill"); t.v2 && exists(name) {
			kill = append(kill, name)
		}
	}
	return kill, remove
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Clean kills and removes the groups that a program which was killed has left: the directories whose name begins with prefix, which must be nobody else's. It believes no
// file: it looks where [Open] of this program would make them, in this program's own groups and, in the unified hierarchy, in those above them, and nowhere else.
func Clean(prefix string) { clean(prefix, thisSystem()) }

func clean(prefix string, sys system) {
	places, err := sys.places()
	if err != nil || prefix == "" {
		return
	}
	for _, p := range places {
		for dir := p.own; ; dir = filepath.Dir(dir) {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				base := filepath.Join(dir, e.Name())
				if e.IsDir() && strings.HasPrefix(e.Name(), prefix) && isControlGroup(base) &&
					!strings.HasPrefix(p.own+"/", base+"/") {
					removeTree(base)
				}
			}
			if !p.v2 || dir == p.mount || dir == filepath.Dir(dir) {
				break
			}
		}
	}
}

// isControlGroup says whether dir is on the kernel's own file systems.
func isControlGroup(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && (s.Type == unix.CGROUP2_SUPER_MAGIC || s.Type == unix.CGROUP_SUPER_MAGIC)
}

// removeTree kills all that is in the group, or in those in it, and removes them.
func removeTree(base string) {
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
		if removeOnce(base) {
			return
		}
		time.Sleep(wait) // the kernel lets go of processes that were killed in its own time
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
		killAll(dir, "")
		err = os.Remove(dir)
	}
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// killAll kills what is in the group. pids is the directory that can keep it from growing meanwhile, where the kernel cannot kill a group; it may be empty.
func killAll(dir, pids string) {
	if write(dir, "cgroup.kill", "1") == nil {
		return
	}
	if pids != "" {
		_ = write(pids, "pids.max", "0")
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

// limit writes the limits of a new group.
func (t *tree) limit(dir string, l Limits) error {
	set := func(name, value string, optional bool) error {
		err := write(dir, name, value)
		if optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
			return nil
		}
		return err
	}
	var errs []error
	if bytes := strconv.FormatInt(l.MemoryBytes, 10); t.memory && l.MemoryBytes > 0 {
		if t.v2 {
			errs = append(errs, set("memory.max", bytes, false), set("memory.oom.group", "1", true),
				set("memory.swap.max", "0", true))
		} else {
			errs = append(errs, set("memory.limit_in_bytes", bytes, false), set("memory.memsw.limit_in_bytes", bytes, true))
		}
	}
	if t.pids && l.Processes > 0 {
		errs = append(errs, set("pids.max", strconv.Itoa(l.Processes), false))
	}
	if t.cpu && l.CPUs > 0 {
		quota := strconv.FormatInt(max(int64(l.CPUs*cpuPeriod), 1000), 10) // the kernel takes no less than a millisecond
		if t.v2 {
			errs = append(errs, set("cpu.max", quota+" "+strconv.Itoa(cpuPeriod), false))
		} else {
			errs = append(errs, set("cpu.cfs_period_us", strconv.Itoa(cpuPeriod), false), set("cpu.cfs_quota_us", quota, false))
		}
	}
	return errors.Join(errs...)
}

// cpuPeriod is over how long processor time is shared out, in microseconds: the kernel's default.
const cpuPeriod = 100_000

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
	g := &Group{root: r, limits: l, name: "w" + strconv.FormatUint(r.seq.Add(1), 10)}
	err := g.make()
	if err == nil {
		err = g.begin()
	}
	if err != nil {
		g.remove()
		return nil, fmt.Errorf("control group %s: %w", filepath.Join(r.cfg.Name, g.name), err)
	}
	return g, nil
}

// giveBack takes a group. One that is not empty is not used again.
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

// Close removes all groups. No process may be in them any more; what still is gets killed.
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
	var errs []error
	for _, t := range r.trees {
		removeTree(t.base)
		if exists(t.base) {
			errs = append(errs, fmt.Errorf("control group %s cannot be removed", t.base))
		}
	}
	r.undo()
	return errors.Join(errs...)
}
