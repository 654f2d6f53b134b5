package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestThisProgramIsFoundInTheHierarchy(t *testing.T) {
	tests := []struct {
		name, mounts, groups string
		want                 place
		found                bool
	}{
		{
			"version 2",
			"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n25 1 8:1 / / rw - ext4 " +
				"/dev/sda1 rw\n",
			"0::/user.slice/user-1000.slice\n",
			place{"/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/user-1000.slice"}, true,
		},
		{
			"hybrid",
			"31 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
				"33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"9:memory:/a/b\n1:name=systemd:/\n0::/\n",
			place{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"}, true,
		},
		{
			"version 1",
			"33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"9:memory:/a/b\n",
			place{}, false,
		},
		{
			"container that sees its own part",
			"40 39 0:30 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n",
			"0::/docker/abc/inner\n",
			place{"/sys/fs/cgroup", "/sys/fs/cgroup/inner"}, true,
		},
		{
			"outside of the mount",
			"40 39 0:30 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n",
			"0::/docker/abcdef\n",
			place{}, false,
		},
		{
			"above the mount",
			"41 39 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			"0::/../other\n",
			place{}, false,
		},
		{
			"a blank in the path",
			`40 39 0:30 / /my\040groups rw - cgroup2 cgroup2 rw` + "\n",
			"0::/a b\n",
			place{"/my groups", "/my groups/a b"}, true,
		},
		{"garbage", "x\n - \n1 2 3 4 5 - cgroup2\n", "nonsense\n::\n0::/\n", place{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, found := findPlace(tt.mounts, tt.groups); got != tt.want || found != tt.found {
				t.Errorf("got %+v, %t, want %+v, %t", got, found, tt.want, tt.found)
			}
		})
	}
}

// kernel2 is a directory that behaves as the hierarchy of cgroups(7): it has the files of each
// group, and refuses the writes that the kernel refuses.
type kernel2 struct {
	t     *testing.T
	mount string
}

func newKernel2(t *testing.T, own string, controllers string) (*kernel2, system) {
	k := &kernel2{t, t.TempDir()}
	k.set(k.mount, "cgroup.controllers", controllers)
	k.set(k.mount, "cgroup.subtree_control", "")
	k.set(k.mount, "cgroup.procs", "1 2")
	proc := t.TempDir()
	k.set(proc, "mountinfo", "30 23 0:26 / "+k.mount+" rw - cgroup2 cgroup2 rw\n")
	k.set(proc, "cgroup", "0::"+own+"\n")
	dir := k.mount
	for _, name := range strings.FieldsFunc(own, func(r rune) bool { return r == '/' }) {
		if dir != k.mount {
			k.set(dir, "cgroup.procs", "")
		}
		k.set(dir, "cgroup.subtree_control", controllers)
		dir = filepath.Join(dir, name)
		if err := k.mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return k, system{
		proc: proc, euid: 1000, delegated: func(string) bool { return false }, mkdir: k.mkdir, write: k.write,
		startable: func(int, string) bool { return true },
	}
}

func (k *kernel2) set(dir, name, value string) {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel2) get(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "absent"
	}
	return string(text)
}

func (k *kernel2) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	k.set(dir, "cgroup.procs", "")
	k.set(dir, "cgroup.events", "populated 0\n")
	k.set(dir, "cgroup.subtree_control", "")
	k.fill(dir, k.get(filepath.Dir(dir), "cgroup.subtree_control"))
	return nil
}

// fill creates the files of the group's controllers.
func (k *kernel2) fill(dir, controllers string) {
	k.set(dir, "cgroup.controllers", controllers)
	for _, c := range strings.Fields(controllers) {
		for name, value := range map[string]map[string]string{
			"memory": {"memory.max": "max", "memory.swap.max": "max", "memory.oom.group": "0", "memory.events": "oom_kill 0\n",
				"memory.current": "0"},
			"pids": {"pids.max": "max"}, "cpu": {"cpu.max": "max 100000"},
		}[c] {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				k.set(dir, name, value)
			}
		}
	}
}

func (k *kernel2) write(dir, name, value string) error {
	switch name {
	case "cgroup.subtree_control":
		on := strings.Fields(k.get(dir, name))
		c := value[1:]
		if value[0] == '-' {
			on = slices.DeleteFunc(on, func(o string) bool { return o == c })
		} else {
			if !slices.Contains(strings.Fields(k.get(dir, "cgroup.controllers")), c) {
				return unix.ENOENT
			}
			if dir != k.mount && k.get(dir, "cgroup.procs") != "" {
				return unix.EBUSY
			}
			on = append(on, c)
		}
		k.set(dir, name, strings.Join(on, " "))
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() {
				k.fill(filepath.Join(dir, e.Name()), strings.Join(on, " "))
			}
		}
	case "cgroup.procs":
		if k.get(dir, "cgroup.subtree_control") != "" && dir != k.mount {
			return unix.EBUSY
		}
		_ = filepath.WalkDir(k.mount, func(path string, d fs.DirEntry, _ error) error {
			if d.IsDir() {
				k.set(path, name, strings.Join(slices.DeleteFunc(
					strings.Fields(k.get(path, name)), func(p string) bool { return p == value }), " "))
			}
			return nil
		})
		k.set(dir, name, strings.TrimSpace(k.get(dir, name)+" "+value))
	default:
		return write(dir, name, value)
	}
	return nil
}

func TestAPlaceInTheHierarchyIsChosen(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	const all = "cpu memory pids"
	v2 := Support{Memory: true, Processes: true, Kill: true}
	bare := Support{Kill: true} // membership without limits
	tests := []struct {
		name, own, controllers string
		prepare                func(k *kernel2, s *system)
		base                   string // relative to the mount
		want                   Support
		moved                  bool // this program, to a group below its own
	}{
		{"the root itself", "/", all, nil, "/groups", v2, false},
		{"alone in a delegated group", "/user/app", all,
			func(k *kernel2, _ *system) { k.set(k.mount+"/user/app", "cgroup.procs", self) }, "/user/app/groups", v2, true},
		{"not alone: the group above", "/user/app", all,
			func(k *kernel2, _ *system) { k.set(k.mount+"/user/app", "cgroup.procs", self+" 77") }, "/user/groups", v2, false},
		{"never out of a limit", "/user/app", all, func(k *kernel2, _ *system) {
			k.set(k.mount+"/user/app", "cgroup.procs", self+" 77")
			k.set(k.mount+"/user/app", "memory.max", "1000000")
		}, "/user/app/groups", bare, false},
		{"a second platform in the same program", "/user/app/" + hostLeaf, all, func(k *kernel2, _ *system) {
			k.set(k.mount+"/user/app/"+hostLeaf, "cgroup.procs", self)
		}, "/user/app/groups", v2, false},
		{"the delegated group that systemd made a subgroup in", "/system.slice/app.service/main", all,
			func(k *kernel2, s *system) {
				k.set(k.mount+"/system.slice/app.service/main", "cgroup.procs", self+" 77")
				s.euid, s.managed, s.delegated = 0, true, func(dir string) bool { return strings.HasSuffix(dir, "app.service") }
			}, "/system.slice/app.service/groups", v2, false},
		{"as root nothing that systemd did not delegate but the root", "/system.slice/app.service", all,
			func(k *kernel2, s *system) {
				k.set(k.mount+"/system.slice/app.service", "cgroup.procs", self)
				s.euid, s.managed = 0, true
			}, "/groups", v2, false},
		{"no controllers here", "/", "", nil, "/groups", bare, false},
		{"no pids controller", "/", "memory", nil, "/groups", Support{Memory: true, Kill: true}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, s := newKernel2(t, tt.own, tt.controllers)
			if tt.prepare != nil {
				tt.prepare(k, &s)
			}
			r, err := open(Config{Name: "groups"}, s)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Support(); got != tt.want {
				t.Errorf("support %+v, want %+v", got, tt.want)
			}
			if got := r.tree.base; got != filepath.Join(k.mount, tt.base) {
				t.Errorf("groups are in %s", got)
			}
			leaf := filepath.Join(k.mount, tt.own, hostLeaf)
			if in := k.get(leaf, "cgroup.procs") == self; in != tt.moved {
				t.Errorf("this program was moved: %t", in)
			}
			r.undo()
			if tt.moved && k.get(filepath.Dir(leaf), "cgroup.procs") != self {
				t.Error("this program was not moved back")
			}
		})
	}
}

func TestWhatCannotBeUsedIsSaidSo(t *testing.T) {
	k, s := newKernel2(t, "/app", "memory pids")
	k.set(k.mount+"/app", "cgroup.procs", "5 6")
	s.mkdir = func(string) error { return unix.EROFS }
	_, err := open(Config{Name: "groups"}, s)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, unix.EROFS) {
		t.Error(err)
	}
	_, s = newKernel2(t, "/", "memory pids")
	s.startable = func(int, string) bool { return false }
	_, err = open(Config{Name: "groups"}, s)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "clone3") {
		t.Error(err)
	}
	s.proc = t.TempDir()
	if _, err := open(Config{Name: "groups"}, s); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func TestLimitsAreWritten(t *testing.T) {
	k, s := newKernel2(t, "/", "cpu memory pids")
	r, err := open(Config{Name: "groups", CPU: true}, s)
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.NewGroup(Limits{MemoryBytes: 256 << 20, Processes: 100, CPUs: 0.25})
	if err != nil {
		t.Fatal(err)
	}
	dir := g.dir
	want := map[string]string{"memory.max": "268435456", "memory.swap.max": "0", "memory.oom.group": "1",
		"pids.max": "100", "cpu.max": "25000 100000"}
	got := map[string]string{}
	for name := range want {
		got[name] = k.get(dir, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !g.Limiting() {
		t.Error("not limiting from the start")
	}
	if g.OutOfMemory() {
		t.Error("out of memory at once")
	}
	k.set(dir, "memory.events", "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 1\n")
	if !g.OutOfMemory() {
		t.Error("the kernel's kill is not seen")
	}
}
