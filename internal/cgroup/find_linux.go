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

// place is where this program is in one hierarchy.
type place struct {
	mount string // where the hierarchy can be seen
	own   string // this program's directory in it
	v2    bool
}

// system is what the choice of a place depends on. Tests have others.
type system struct {
	proc      string                 // directory of this program in /proc
	euid      int                    // effective user
	managed   bool                   // systemd owns what it did not delegate
	delegated func(dir string) bool  // whether systemd did
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

// hasDelegateMark looks for the attribute with which systemd marks what it leaves to others.
func hasDelegateMark(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		value := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, value); err == nil && n == 1 && value[0] == '1' {
			return true
		}
	}
	return false
}

// places returns where this program is: by controller, and "" for the unified hierarchy.
func (s *system) places() (map[string]place, error) {
	mounts, err := os.ReadFile(filepath.Join(s.proc, "mountinfo"))
	if err != nil {
		return nil, err
	}
	groups, err := os.ReadFile(filepath.Join(s.proc, "cgroup"))
	if err != nil {
		return nil, err
	}
	return findPlaces(string(mounts), string(groups)), nil
}

// findPlaces reads proc_pid_mountinfo(5) and the file cgroup of cgroups(7).
func findPlaces(mountinfo, cgroup string) map[string]place {
	paths := map[string]string{}
	for line := range strings.Lines(cgroup) {
		parts := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			paths[controller] = parts[2]
		}
	}
	found := map[string]place{}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		front, back := strings.Fields(before), strings.Fields(after)
		if !ok || len(front) < 5 || len(back) < 3 {
			continue
		}
		var controllers []string
		switch back[0] {
		case "cgroup2":
			controllers = []string{""}
		case "cgroup":
			controllers = strings.Split(back[2], ",")
		}
		root, mount := unescapeMount(front[3]), unescapeMount(front[4])
		for _, c := range controllers {
			path, here := paths[c]
			if _, twice := found[c]; !here || twice {
				continue
			}
			rel, below := strings.CutPrefix(path, strings.TrimRight(root, "/"))
			if !below || rel != "" && rel[0] != '/' || strings.Contains(rel+"/", "/../") {
				continue // what is mounted does not have this program's group
			}
			found[c] = place{mount: mount, own: filepath.Join(mount, rel), v2: back[0] == "cgroup2"}
		}
	}
	return found
}

// unescapeMount undoes how the kernel writes blanks and backslashes.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// hostLeaf is the group into which this program moves where it is alone in the one that was delegated to it: a group of version 2 that passes
// controllers on must not have processes.
const hostLeaf = "blueprint-host"

// chooseUnified makes the directory that holds the groups in the unified hierarchy, with as many of the wanted controllers as can be had: in the nearest of this
// program's group and those above it that may be used. undo puts back what it has moved.
func (s *system) chooseUnified(p place, name string, wanted []string) (t tree, undo func(), err error) {
	wanted = slices.DeleteFunc(slices.Clone(wanted),
		func(c string) bool { return !slices.Contains(words(p.mount, "cgroup.controllers"), c) })
	own := p.own
	if filepath.Base(own) == hostLeaf && own != p.mount {
		own = filepath.Dir(own)
	}
	for dir := own; len(wanted) > 0; dir = filepath.Dir(dir) {
		if t, undo, err = s.tryUnified(dir, p, name, wanted); err == nil {
			return t, undo, nil
		}
		if dir == p.mount || limited(dir) { // what limits this program must limit what it starts
			break
		}
	}
	// Without controllers a group still holds together what is to be killed together.
	t = tree{base: filepath.Join(p.own, name), v2: true}
	if s.mayUse(p.own, p.mount) {
		err = s.makeBase(t.base)
	} else {
		err = fmt.Errorf("%s is systemd's and not delegated", p.own)
	}
	return t, func() {}, err
}

// mayUse says whether groups may be made in dir. For anybody but root the permissions say it.
func (s *system) mayUse(dir, mount string) bool {
	return !s.managed || s.euid != 0 || dir == mount || s.delegated(dir)
}

func (s *system) makeBase(dir string) error {
	if err := s.mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (s *system) tryUnified(dir string, p place, name string, wanted []string) (tree, func(), error) {
	t := tree{base: filepath.Join(dir, name), v2: true}
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
	for _, c := range got { // and on to the groups in it
		if slices.Contains(wanted, c) {
			_ = s.write(t.base, "cgroup.subtree_control", "+"+c)
		}
	}
	got = words(t.base, "cgroup.subtree_control")
	t.memory, t.pids, t.cpu = slices.Contains(got, "memory"), slices.Contains(got, "pids"), slices.Contains(got, "cpu")
	return t, undo, nil
}

// passOn has dir pass the wanted controllers on. The one that counts is memory.
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

// limited says whether a group of version 2 bounds what is in it.
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

// write writes one of the kernel's files, which cannot be made.
func write(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// count reads a number of a file with a name and a number on each line.
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
