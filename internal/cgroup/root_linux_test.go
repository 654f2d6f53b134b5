package cgroup

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// With HOST_NAME the test binary is a program that makes groups and waits to be killed.
func TestMain(m *testing.M) {
	if name := os.Getenv("HOST_NAME"); name != "" {
		beHost(name)
		return
	}
	os.Exit(m.Run())
}

func beHost(name string) {
	r, err := Open(Config{Name: name})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	g, err := r.NewGroup(Limits{MemoryBytes: 64 << 20, Processes: 10})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	cmd := sleeper(g)
	if err := cmd.Start(); err != nil {
		fmt.Println("error", err)
		return
	}
	_, remove := r.Left()
	fmt.Println(cmd.Process.Pid, remove)
	time.Sleep(time.Hour)
}

// sleeper is a process in its own session that ends only when it is killed.
func sleeper(g *Group) *exec.Cmd {
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.SysProcAttr.CgroupFD, cmd.SysProcAttr.UseCgroupFD = g.FD()
	return cmd
}

const aWhile = 30 * time.Second

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(aWhile); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not seen: " + what)
		}
	}
}

func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// openHere opens the control groups of this machine. If it has none, the error must say so, and the
// test is over.
func openHere(t *testing.T, cfg Config) *Root {
	t.Helper()
	cfg.Name = "blueprint-test-" + rand.Text()
	r, err := Open(cfg)
	if err != nil {
		if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			t.Log("root, and still:", err)
		}
		return nil
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(r.tree.base); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", r.tree.base, err)
		}
	})
	return r
}

func TestAGroupHoldsWhatItsProcessStarts(t *testing.T) {
	r := openHere(t, Config{CPU: true})
	if r == nil {
		return
	}
	g, err := r.NewGroup(Limits{MemoryBytes: 64 << 20, Processes: 20, CPUs: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.SysProcAttr.CgroupFD, cmd.SysProcAttr.UseCgroupFD = g.FD()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	next := func() string { lines.Scan(); return lines.Text() }
	sameSession, ownSession := next(), next()
	for _, pid := range []string{strconv.Itoa(cmd.Process.Pid), sameSession, ownSession} {
		if id, _ := strconv.Atoi(pid); !slices.Contains(g.Processes(), id) {
			t.Errorf("%s is not in %s, which has %v", pid, g.dir, g.Processes())
		}
	}
	g.Kill()
	await(t, "the end of all", func() bool {
		a, _ := strconv.Atoi(sameSession)
		b, _ := strconv.Atoi(ownSession)
		return gone(a) && gone(b)
	})
	_ = cmd.Wait()
	g.Release()
}

// The files show what the kernel was told. The kernel decides how much time a process then gets.
func TestTheKernelHasTheLimits(t *testing.T) {
	r := openHere(t, Config{CPU: true})
	if r == nil {
		return
	}
	g, err := r.NewGroup(Limits{MemoryBytes: 64 << 20, Processes: 20, CPUs: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Release()
	want := map[string]string{}
	if r.tree.memory {
		want["memory.max"], want["memory.oom.group"] = "67108864", "1"
	}
	if r.tree.pids {
		want["pids.max"] = "20"
	}
	if r.tree.cpu {
		want["cpu.max"] = "50000 100000"
	}
	for name, value := range want {
		if got := strings.Join(words(g.dir, name), " "); got != value {
			t.Errorf("%s of %s is %q, want %q", name, g.dir, got, value)
		}
	}
}

func TestEmptyGroupsAreUsedAgain(t *testing.T) {
	r := openHere(t, Config{})
	if r == nil {
		return
	}
	l := Limits{MemoryBytes: 64 << 20, Processes: 20}
	first, err := r.NewGroup(l)
	if err != nil {
		t.Fatal(err)
	}
	cmd := sleeper(first)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	first.Release()
	r.waiting.Wait()
	again, err := r.NewGroup(l)
	if err != nil || again != first {
		t.Fatalf("another group: %v", err)
	}
	other, err := r.NewGroup(Limits{MemoryBytes: 128 << 20})
	if err != nil || other == first {
		t.Fatalf("the same group for other limits: %v", err)
	}
	again.Release()
	other.Release()
}

// See asNew for the reason.
func TestAGroupThatWasKilledIsNotUsedAgain(t *testing.T) {
	r := openHere(t, Config{})
	if r == nil {
		return
	}
	for range 3 {
		g, err := r.NewGroup(Limits{})
		if err != nil {
			t.Fatal(err)
		}
		cmd := sleeper(g)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		g.Kill()
		_ = cmd.Wait()
		g.Release()
		r.waiting.Wait()
		if len(r.free) > 0 {
			t.Error("the group is kept")
		}
	}
}

func TestWhatAKilledProgramLeavesIsRemoved(t *testing.T) {
	if openHere(t, Config{}) == nil {
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := "blueprint-test-" + rand.Text()
	host := exec.Command(exe)
	host.Env = append(os.Environ(), "HOST_NAME="+name+"-1")
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var base string
	_, err = fmt.Fscanln(out, &pid, &base)
	_ = host.Process.Kill()
	_ = host.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(base); err != nil {
		t.Errorf("nothing was left to remove: %v", err)
	}
	Clean("") // harmless, as is the next
	Clean("blueprint-test-another")
	if gone(pid) {
		t.Error("the groups of another program were removed")
	}
	Clean(name + "-")
	await(t, "the end of the process", func() bool { return gone(pid) })
	if _, err := os.Stat(base); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", base, err)
	}
}

// Whatever has the name: only control groups are removed, only where this program makes them, and
// never through a link.
func TestOnlyOwnControlGroupsAreRemoved(t *testing.T) {
	r := openHere(t, Config{})
	if r == nil {
		return
	}
	g, err := r.NewGroup(Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := sleeper(g)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		g.Release()
	}()
	name := "blueprint-test-" + rand.Text()
	fake := t.TempDir() // looks like a program's group, but is not on the kernel's file system
	proc := t.TempDir()
	_, base := r.Left()
	for dir, make := range map[string]func(path string) error{
		filepath.Join(fake, name+"-dir"):  func(path string) error { return os.MkdirAll(filepath.Join(path, "w1"), 0o700) },
		filepath.Join(fake, name+"-link"): func(path string) error { return os.Symlink(base, path) },
	} {
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{
		"mountinfo": "1 0 0:1 / " + fake + " rw - cgroup2 cgroup2 rw\n", "cgroup": "0::/\n",
	} {
		if err := os.WriteFile(filepath.Join(proc, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clean(name, system{proc: proc})
	if entries, err := os.ReadDir(fake); err != nil || len(entries) != 2 {
		t.Errorf("%v are left, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(fake, name+"-dir", "w1")); err != nil || gone(cmd.Process.Pid) {
		t.Errorf("another's directory: %v; the process through the link has ended: %t", err, gone(cmd.Process.Pid))
	}
}

func TestClosedRootsMakeNoGroups(t *testing.T) {
	r := openHere(t, Config{})
	if r == nil {
		return
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if _, err := r.NewGroup(Limits{}); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}
