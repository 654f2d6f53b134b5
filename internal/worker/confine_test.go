//go:build unix

package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

// confinedHost returns a host with the control groups of this machine, and what they support.
func confinedHost(t testing.TB, c HostConfig) (*Host, cgroup.Support) {
	t.Helper()
	root, err := cgroup.Open(cgroup.Config{Name: "blueprint-test-" + rand.Text(), CPU: true})
	if err != nil {
		if !errors.Is(err, cgroup.ErrUnavailable) {
			t.Fatal(err)
		}
		t.Log(err)
	}
	c.Cgroups = root
	h := NewConfinedHost(c)
	t.Cleanup(func() {
		h.Close()
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, root.Support()
}

// onBothHosts runs a test with the control groups of this machine, and without. Without root the
// first is the second on most machines.
func onBothHosts(t *testing.T, test func(t *testing.T, h *Host, s cgroup.Support)) {
	if runtime.GOOS != "linux" {
		t.Skip("limits hold on Linux only")
	}
	for _, name := range []string{"control groups", "none"} {
		t.Run(name, func(t *testing.T) {
			if name == "none" {
				h := NewHost()
				t.Cleanup(h.Close)
				test(t, h, h.Support())
				return
			}
			h, s := confinedHost(t, HostConfig{})
			test(t, h, s)
		})
	}
}

func TestMemoryLimitEndsOnlyItsOwnProcess(t *testing.T) {
	for _, job := range []uint32{jobEat, jobChildEats, jobChildrenEat} {
		t.Run(strconv.Itoa(int(job)), func(t *testing.T) {
			onBothHosts(t, func(t *testing.T, h *Host, s cgroup.Support) {
				if job == jobChildEats && !s.Memory {
					return // RLIMIT_DATA may make the child fail before it is looked at
				}
				greedy := newPool(t, "frames", func(c *Config) { c.Host, c.MemoryMB, c.MaxWorkers = h, 128, 1 })
				other := newPool(t, "frames", func(c *Config) { c.Host, c.MemoryMB, c.MaxWorkers = h, 128, 1 })
				slow := runSlow(other)
				_, _, err := greedy.Invoke(t.Context(), job, nil, aWhile)
				var f *faas.FunctionError
				if !errors.As(err, &f) || f.Type != "out of memory" || !strings.Contains(err.Error(), "limit of 128 MiB") {
					t.Errorf("got %v", err)
				}
				if err := <-slow; err != nil {
					t.Errorf("the other function: %v", err)
				}
				if got := mustInvoke(t, greedy, jobEcho, "next"); got != "next" {
					t.Error(got)
				}
			})
		})
	}
}

func TestForkBombStaysBounded(t *testing.T) {
	onBothHosts(t, func(t *testing.T, h *Host, s cgroup.Support) {
		p := newPool(t, "frames", func(c *Config) { c.Host, c.MemoryMB, c.MaxTasks, c.MaxWorkers = h, 512, 60, 1 })
		out, _, err := p.Invoke(t.Context(), jobBomb, nil, aWhile)
		if !s.Processes {
			// On a slow machine the job may end between two looks. A later look sees it.
			for err == nil {
				_, _, err = p.Invoke(t.Context(), jobHang, nil, aWhile)
			}
			var f *faas.FunctionError
			if !errors.As(err, &f) || f.Type != "too many processes" || !strings.Contains(err.Error(), "limit of 60 processes") {
				t.Errorf("got %v", err)
			}
			return
		}
		if n, _ := strconv.Atoi(string(out)); err != nil || n < 1 || n > 60 {
			t.Errorf("%q processes were started, %v", out, err)
		}
	})
}

func TestOpenFilesAreTheProcessesOwn(t *testing.T) {
	onBothHosts(t, func(t *testing.T, h *Host, _ cgroup.Support) {
		for _, mode := range modes {
			greedy := newPool(t, mode, func(c *Config) { c.Host, c.MaxOpenFiles, c.MaxWorkers = h, 64, 1 })
			out := mustInvoke(t, greedy, jobOpenFiles, "")
			if n, _ := strconv.Atoi(out); n < 1 || n > 64 {
				t.Errorf("%s: %q files were opened", mode, out)
			}
			other := newPool(t, mode, func(c *Config) { c.Host, c.MaxOpenFiles = h, 64 })
			if got := mustInvoke(t, other, jobEcho, "fine"); got != "fine" {
				t.Error(got)
			}
		}
	})
}

func TestNoCoreDumps(t *testing.T) {
	onBothHosts(t, func(t *testing.T, h *Host, _ cgroup.Support) {
		p := newPool(t, "stdio", func(c *Config) { c.Host, c.NoCoreDumps = h, true })
		for line := range strings.Lines(mustInvoke(t, p, jobRead, "/proc/self/limits")) {
			if strings.HasPrefix(line, "Max core file size") && strings.Join(strings.Fields(line)[4:6], " ") != "0 0" {
				t.Error(line)
			}
		}
	})
}

func readPID(t *testing.T, text string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || pid < 2 {
		t.Fatalf("pid %q", text)
	}
	return pid
}

func TestWhatLeftItsSessionEndsWithTheFunction(t *testing.T) {
	onBothHosts(t, func(t *testing.T, h *Host, _ cgroup.Support) {
		for _, mode := range modes {
			other := newPool(t, mode, func(c *Config) { c.Host = h })
			beside := readPID(t, mustInvoke(t, other, jobLeave, ""))
			p := newPool(t, mode, func(c *Config) { c.Host, c.OwnTempDir = h, true })
			pids := []int{readPID(t, mustInvoke(t, p, jobDaemon, "")), readPID(t, mustInvoke(t, p, jobLeave, ""))}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
			for _, pid := range pids {
				gone(t, pid)
			}
			if mode == "frames" && len(running([]int{beside})) == 0 { // otherwise its control group ended it with its call
				t.Error("what another pool's process has started ended too")
			}
			if err := other.Close(t.Context()); err != nil {
				t.Error(err)
			}
			gone(t, beside)
		}
	})
}

func TestWhatLeftItsSessionEndsWithItsProcess(t *testing.T) {
	onBothHosts(t, func(t *testing.T, h *Host, _ cgroup.Support) {
		for _, mode := range modes {
			p := newPool(t, mode, func(c *Config) { c.Host, c.MaxWorkers, c.Grace = h, 1, 10*time.Millisecond })
			file := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancel(t.Context())
			var call sync.WaitGroup
			call.Go(func() { _, _, _ = p.Invoke(ctx, jobDaughter, []byte(file), aWhile) })
			var text []byte
			for deadline := time.Now().Add(aWhile); !strings.HasSuffix(string(text), "\n"); time.Sleep(time.Millisecond) {
				if text, _ = os.ReadFile(file); time.Now().After(deadline) {
					t.Fatal("no child")
				}
			}
			cancel()
			call.Wait()
			gone(t, readPID(t, string(text)))
		}
	})
}

// No descriptor of this program reaches a job: not those that it inherited, nor its control
// group's.
func TestProcessesInheritNoDescriptor(t *testing.T) {
	fd, err := syscall.Open(t.TempDir()+"/secret", syscall.O_CREAT|syscall.O_RDWR, 0o600) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	onBothHosts(t, func(t *testing.T, h *Host, _ cgroup.Support) {
		for _, mode := range modes {
			p := newPool(t, mode, func(c *Config) { c.Host = h })
			kinds := map[string]string{}
			for line := range strings.Lines(mustInvoke(t, p, jobFDs, "")) {
				number, target, _ := strings.Cut(strings.TrimSpace(line), " ")
				kind, _, _ := strings.Cut(target, ":")
				// Skip those of the Go runtime, and the one with which the job looks.
				if kind == "anon_inode" || target == "" || strings.HasSuffix(target, "/fd") || strings.Contains(target, "/cpu.") {
					continue
				}
				kinds[number] = kind
			}
			if diff := cmp.Diff(map[string]string{"0": "pipe", "1": "pipe", "2": "pipe"}, kinds); diff != "" {
				t.Errorf("%s: %s", mode, diff)
			}
		}
	})
}

func TestNoNewPrivileges(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux has that")
	}
	h, _ := confinedHost(t, HostConfig{NoNewPrivileges: true})
	p := newPool(t, "stdio", func(c *Config) { c.Host = h })
	if got := mustInvoke(t, p, jobRead, "/proc/self/status"); !strings.Contains(got, "NoNewPrivs:\t1\n") {
		t.Error(got)
	}
	if own, err := os.ReadFile("/proc/thread-self/status"); err != nil ||
		!strings.Contains(string(own), "NoNewPrivs:\t0\n") {
		t.Log("this program itself is bound too") // by whatever started it
	}
}

// publicBinary returns a copy of this test that every user can run.
func publicBinary(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(publicDir(t), "job")
	if err := os.WriteFile(path, body, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// publicDir returns a directory that every user can enter, unlike those of testing.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "worker-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Functions with users of their own see nothing of each other. Only root can give them users;
// others get an error.
func TestUsersKeepFunctionsApart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	h, _ := confinedHost(t, HostConfig{})
	exe := publicBinary(t)
	user := func(id uint32) *Pool {
		dir := publicDir(t)
		if os.Geteuid() == 0 {
			if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, int(id), int(id))); err != nil {
				t.Fatal(err)
			}
		}
		return newPool(t, "frames", func(c *Config) {
			c.Path, c.Dir, c.TempDir, c.Host, c.Env = exe, "/", dir, h, append(c.Env, "SECRET=value")
			c.User, c.MaxTasks = &User{UID: id, GID: id, Alone: true}, 100
		})
	}
	a, b := user(612_345), user(612_346)
	if os.Geteuid() != 0 {
		if _, _, err := a.Invoke(t.Context(), jobEcho, nil, aWhile); !errors.Is(err, os.ErrPermission) {
			t.Errorf("got %v", err)
		}
		return
	}
	pid := readPID(t, mustInvoke(t, a, jobPID, ""))
	file := filepath.Join(a.cfg.TempDir, "file")
	mustInvoke(t, a, jobWrite, file)
	for _, path := range []string{file, fmt.Sprintf("/proc/%d/environ", pid)} {
		if got := mustInvoke(t, a, jobRead, path); !strings.Contains(got, "secret") &&
			!strings.Contains(got, "SECRET=value") {
			t.Errorf("its own %s: %q", path, got)
		}
		_, _, err := b.Invoke(t.Context(), jobRead, []byte(path), aWhile)
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("another function reads %s: %v", path, err)
		}
	}
	// When a pool ends, the processes of its user end.
	daemon := readPID(t, mustInvoke(t, a, jobDaemon, ""))
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
	gone(t, daemon)
}

func TestNamespaces(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux has them")
	}
	h, _ := confinedHost(t, HostConfig{})
	p := newPool(t, "frames", func(c *Config) { c.Host, c.Namespaces = h, PIDNamespace|IPCNamespace|NetworkNamespace })
	if os.Geteuid() != 0 {
		if _, _, err := p.Invoke(t.Context(), jobEcho, nil, aWhile); !errors.Is(err, os.ErrPermission) {
			t.Errorf("got %v", err)
		}
		return
	}
	if got := mustInvoke(t, p, jobPID, ""); got != "1" {
		t.Errorf("its number is %s", got)
	}
	for line := range strings.Lines(mustInvoke(t, p, jobRead, "/proc/self/net/dev")) {
		if name, _, is := strings.Cut(strings.TrimSpace(line), ":"); is && name != "lo" {
			t.Errorf("it has network device %s", name)
		}
	}
	daemon, host := mustInvoke(t, p, jobDaemon, ""), p.Stats().PIDs[0] // its number there is not its number here
	if readPID(t, daemon) > 1000 {
		t.Errorf("number %s in a new namespace", daemon)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	gone(t, host)
}
