//go:build unix

package platform

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var kills = flag.Int("kills", 12, "how often TestNothingIsLeftByKills kills a platform; a long run has 200")

// beVictim serves a platform under load until it is killed. Its functions carry TEST_VICTIM, so
// that they are found wherever they are.
func beVictim(name string) {
	opts := []Option{WithMaxWorkers(2)}
	if os.Getenv("TEST_HOST_WITHOUT_CGROUPS") != "" {
		opts = append(opts, WithoutCgroups())
	}
	p, err := New(opts...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := p.Listen("127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() { _ = p.Server().Serve(l) }()
	fmt.Println(l.Addr(), p.Dir())
	base := "http://" + l.Addr().String() + "/api/functions/"
	script, err := os.ReadFile(os.Getenv("TEST_SCRIPT_ZIP"))
	if err != nil {
		panic(err)
	}
	program, err := os.ReadFile(os.Getenv("TEST_JOB_ZIP"))
	if err != nil {
		panic(err)
	}
	send := func(method, path string, body []byte) {
		req, err := http.NewRequest(method, base+path, bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		req.Header.Set("X-Blueprint-If-Exists", "replace")
		req.Header.Set("X-Blueprint-Config", configHeader(
			map[string]any{"memory_mb": 128, "timeout_secs": 1, "env_vars": map[string]string{"TEST_VICTIM": name}}))
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}
	for id, pkg := range map[string][]byte{"script": script, "jobs": program} {
		go func() {
			for {
				send(http.MethodPut, id, pkg)
				var calls sync.WaitGroup
				for _, job := range []int{jobEcho, jobFork, jobKill, jobHang, jobSlow, jobPrint} {
					calls.Go(func() { send(http.MethodPost, id+"/invoke", requestJSON(job, "x")) })
				}
				time.Sleep(rand.N(50 * time.Millisecond))
				send(http.MethodDelete, id, nil)
				calls.Wait()
			}
		}()
	}
	select {}
}

// carriers returns the processes whose environment contains the text.
func carriers(text string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if env, err := os.ReadFile("/proc/" + e.Name() + "/environ"); err == nil && bytes.Contains(env, []byte(text)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A platform is killed at any moment, while functions are deployed, called, replaced and removed,
// and try to stay. It leaves no process, no control group, no port, and, once the next platform has
// started, no directory.
func TestNothingIsLeftByKills(t *testing.T) {
	t.Logf("-kills=%d", *kills)
	parent, zips := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", parent)
	script := scriptZip(t, `setsid sleep 1000 >/dev/null 2>&1 &
setsid sh -c 'sleep 1000 >/dev/null 2>&1 &'
env -i PATH="$PATH" TEST_VICTIM="$TEST_VICTIM" setsid sh -c 'sleep 1000 >/dev/null 2>&1 &'
cat >/dev/null; sleep 0.0$(($$ % 10)); echo '{"result":[]}'`)
	if err := errors.Join(os.WriteFile(filepath.Join(zips, "script"), script, 0o600),
		os.WriteFile(filepath.Join(zips, "jobs"), jobZip(), 0o600)); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string // as they are called in control groups
	groups := map[string]bool{}
	for n := range *kills {
		name := fmt.Sprintf("victim-%d-%d-of-%d", os.Getpid(), n, *kills)
		ctx, cancel := context.WithTimeout(t.Context(), aWhile)
		cmd := exec.CommandContext(ctx, exe)
		cmd.Env = append(os.Environ(), "TEST_VICTIM="+name, "TEST_SCRIPT_ZIP="+filepath.Join(zips, "script"),
			"TEST_JOB_ZIP="+filepath.Join(zips, "jobs"))
		if n%3 == 0 {
			cmd.Env = append(cmd.Env, "TEST_HOST_WITHOUT_CGROUPS=1")
		}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if n%8 != 0 { // else while it starts
			var addr, dir string
			if _, err := fmt.Fscanln(bufio.NewReader(out), &addr, &dir); err != nil {
				t.Fatal(err)
			}
			groups[groupsOf(dir)] = true
			dirs = append(dirs, dir)
			time.Sleep(rand.N(400 * time.Millisecond))
			defer func() {
				if l, err := net.Listen("tcp", addr); err == nil {
					_ = l.Close()
				} else if pids := carriers(name); len(pids) > 0 {
					t.Errorf("%s is still taken, by one of %v: %v", addr, pids, err)
				}
			}()
		} else {
			time.Sleep(rand.N(60 * time.Millisecond))
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cancel()
		for deadline := time.Now().Add(aWhile); ; time.Sleep(5 * time.Millisecond) {
			left := carriers("TEST_VICTIM=" + name)
			if len(left) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("kill %d: processes %v are left", n, left)
			}
		}
	}
	p, err := New()
	if err == nil {
		err = p.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	// the guards remove these in their own time
	for deadline := time.Now().Add(aWhile); ; time.Sleep(5 * time.Millisecond) {
		var left []string
		for _, dir := range allGroups() {
			if i := strings.LastIndexByte(filepath.Base(dir), '-'); i > 0 && groups[filepath.Base(dir)[:i+1]] {
				left = append(left, dir)
			}
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("control groups %v are left by %v", left, dirs)
		}
	}
}

// allGroups returns the control groups of platforms, whoever made them.
func allGroups() (found []string) {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*", "/sys/fs/cgroup/*/*/*",
		"/sys/fs/cgroup/*/*/*/*"} {
		dirs, _ := filepath.Glob(pattern + "/" + cgroupPrefix + "*")
		found = append(found, dirs...)
	}
	return found
}
