package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is where this program is in the hierarchy.
type place struct {
	mount string // where the hierarchy is mounted
	own   string // this program's directory in it
}

// system is what the choice of a place depends on. Tests replace it.
type system struct {
	proc      string                 // directory of this program in /proc
	euid      int                    // effective user
	managed   bool                   // systemd owns the groups that it did not delegate
	delegated func(dir string) bool  // whether systemd delegated the group
	mkdir     func(dir string) error // the kernel fills a new directory
	write     func(dir, name, value string) error
	startable func(fd int, dir string) bool // whether a process can be started in a group
}

func thisSystem() system {
	_, err := os.Stat("/run/systemd/system") // sd_booted(3)
	return system{
		proc: "/proc/self", euid: os.Geteuid(), managed: err == nil, delegated: hasDelegateMark,
		mkdir: func(dir string) error { return os.Mkdir(dir, 0o755) }, write: write, startable: startsInside,
	}
}

// hasDelegateMark looks for the attribute with which systemd marks the groups that it delegates.
func hasDelegateMark(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		value := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, value); err == nil && n == 1 && value[0] == '1' {
			return true
		}
	}
	return false
}

// place returns where this program is.
func (s *system) place() (place, error) {
	mounts, err := os.ReadFile(filepath.Join(s.proc, "mountinfo"))
	if err != nil {
		return place{}, err
	}
	groups, err := os.ReadFile(filepath.Join(s.proc, "cgroup"))
	if err != nil {
		return place{}, err
	}
	p, ok := findPlace(string(mounts), string(groups))
	if !ok {
		return p, errors.New("no mounted hierarchy has this program's group")
	}
	return p, nil
}

// findPlace reads proc_pid_mountinfo(5) and the file cgroup of cgroups(7).
func findPlace(mountinfo, cgroup string) (place, bool) {
	path, ok := "", false
	for line := range strings.Lines(cgroup) {
		if rest, is := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::"); is {
			path, ok = rest, true
		}
	}
	if !ok {
		return place{}, false
	}
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		front, back := strings.Fields(before), strings.Fields(after)
		if len(front) < 5 || len(back) < 3 || back[0] != "cgroup2" {
			continue
		}
		root, mount := unescapeMount(front[3]), unescapeMount(front[4])
		rel, below := strings.CutPrefix(path, strings.TrimRight(root, "/"))
		if !below || rel != "" && rel[0] != '/' || strings.Contains(rel+"/", "/../") {
			continue // this mount does not show this program's group
		}
		return place{mount: mount, own: filepath.Join(mount, rel)}, true
	}
	return place{}, false
}

// unescapeMount undoes how the kernel escapes blanks and backslashes.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// hostLeaf is the group into which this program moves if it is alone in a group that was delegated
// to it: a group that passes controllers on must not have processes.
const hostLeaf = "blueprint-host"

// choose makes the directory that holds the groups, with as many of the wanted controllers as this
// program can get: in its own group, or in the nearest group above it that it may use. undo moves
// back what choose moved.
func (s *system) choose(p place, name string, wanted []string) (t tree, undo func(), err error) {
	wanted = slices.DeleteFunc(slices.Clone(wanted),
		func(c string) bool { return !slices.Contains(words(p.mount, "cgroup.controllers"), c) })
	own := p.own
	if filepath.Base(own) == hostLeaf && own != p.mount {
		own = filepath.Dir(own)
	}
	for dir := own; len(wanted) > 0; dir = filepath.Dir(dir) {
		if t, undo, err = s.tryDir(dir, p, name, wanted); err == nil {
			return t, undo, nil
		}
		if dir == p.mount || limited(dir) { // a limit of this program also applies to what it starts
			break
		}
	}
	// Without controllers a group can still be killed as a whole.
	t = tree{base: filepath.Join(p.own, name)}
	if s.mayUse(p.own, p.mount) {
		err = s.makeBase(t.base)
	} else {
		err = fmt.Errorf("%s is systemd's and not delegated", p.own)
	}
	return t, func() {}, err
}

// mayUse reports whether this program may make groups in dir. Permissions tell everybody but root.
func (s *system) mayUse(dir, mount string) bool {
	return !s.managed || s.euid != 0 || dir == mount || s.delegated(dir)
}

func (s *system) makeBase(dir string) error {
	if err := s.mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (s *system) tryDir(dir string, p place, name string, wanted []string) (tree, func(), error) {
	t := tree{base: filepath.Join(dir, name)}
	if !s.mayUse(dir, p.mount) {
		return t, nil, fmt.Errorf("%s is systemd's and not delegated", dir)
	}
	available := words(dir, "cgroup.controllers")
	if dir == p.mount {
		available = wanted
	}
	if !slices.Contains(available, "memory") && slices.Contains(wanted, "memory") {
		return t, nil, fmt.Errorf("%s has no memory controller", dir)
	}
	if err := s.makeBase(t.base); err != nil {
		return t, nil, err
	}
	undo, err := s.passOn(dir, wanted, available)
	if err != nil {
		_ = os.Remove(t.base)
		return t, nil, err
	}
	got := words(t.base, "cgroup.controllers")
	for _, c := range got { // pass them on to the groups inside
		if slices.Contains(wanted, c) {
			_ = s.write(t.base, "cgroup.subtree_control", "+"+c)
		}
	}
	got = words(t.base, "cgroup.subtree_control")
	t.memory, t.pids, t.cpu = slices.Contains(got, "memory"), slices.Contains(got, "pids"), slices.Contains(got, "cpu")
	return t, undo, nil
}

// passOn has dir pass the wanted controllers on. Only memory is required.
func (s *system) passOn(dir string, wanted, available []string) (undo func(), err error) {
	var enabled []string
	moved := false
	undo = func() {
		for _, c := range enabled {
			_ = s.write(dir, "cgroup.subtree_control", "-"+c)
		}
		if moved && s.write(dir, "cgroup.procs", strconv.Itoa(os.Getpid())) == nil {
			_ = os.Remove(filepath.Join(dir, hostLeaf))
		}
	}
	for _, c := range wanted {
		if !slices.Contains(available, c) || slices.Contains(words(dir, "cgroup.subtree_control"), c) {
			continue
		}
		err := s.write(dir, "cgroup.subtree_control", "+"+c)
		if errors.Is(err, unix.EBUSY) && !moved && slices.Equal(
			words(dir, "cgroup.procs"), []string{strconv.Itoa(os.Getpid())}) {
			leaf := filepath.Join(dir, hostLeaf)
			if err = s.makeBase(leaf); err == nil {
				if err = s.write(leaf, "cgroup.procs", strconv.Itoa(os.Getpid())); err == nil {
					moved = true
					err = s.write(dir, "cgroup.subtree_control", "+"+c)
				}
			}
		}
		switch {
		case err == nil:
			enabled = append(enabled, c)
		case c == "memory":
			undo()
			return nil, fmt.Errorf("%s cannot pass on its memory controller: %w", dir, err)
		}
	}
	return undo, nil
}

// limited reports whether a group limits what is in it.
func limited(dir string) bool {
	for _, name := range []string{"memory.max", "cpu.max"} {
		if w := words(dir, name); len(w) > 0 && w[0] != "max" {
			return true
		}
	}
	return false
}

func words(dir, name string) []string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// write writes one of the kernel's files, and never creates one.
func write(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// count reads a number from a file that has a name and a number on each line.
func count(dir, name, key string) uint64 {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == key {
			n, _ := strconv.ParseUint(string(f[1]), 10, 64)
			return n
		}
	}
	return 0
}
