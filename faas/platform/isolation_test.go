//go:build unix

package platform

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// shell is a function that runs its arguments as a shell script and answers the output.
const shell = `script=$(sed 's/.*"args":\[\([0-9,]*\)\].*/\1/' | tr , '\n' | awk '{printf "%c", $1}')
printf '{"result":[%s]}' "$(sh -c "$script" 2>&1 | od -An -v -tu1 | tr -s ' \n' ',' | sed 's/^,//;s/,$//')"`

// putShell deploys shell. note is part of the package, so that different notes make different
// packages.
func (s *server) putShell(id, note string, config map[string]any) {
	s.t.Helper()
	c := map[string]any{"memory_mb": 256, "timeout_secs": 120}
	for name, value := range config {
		c[name] = value
	}
	pkg := makeZip(s.t, file{"bootstrap", 0o755, "#!/bin/sh\n" + shell}, file{"note", 0o644, note},
		file{"data/more", 0o644, note})
	s.mustPut(id, pkg, "X-Blueprint-Config", configHeader(c))
}

func (s *server) sh(id, script string) string {
	s.t.Helper()
	return strings.TrimSpace(s.mustInvoke(id, 0, script))
}

// openDir returns the path of a directory that does not exist yet and that every user will be able
// to enter.
func openDir(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "platform-test-")
	if err == nil {
		err = os.Chmod(parent, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	return filepath.Join(parent, "platform")
}

func TestEachFunctionHasDirectoriesOfItsOwn(t *testing.T) {
	s := newServer(t)
	s.putShell("a", "same", nil)
	s.putShell("b", "same", nil)
	if got := s.sh("a", "cat note data/more"); got != "samesame" {
		t.Errorf("the package is not where the function runs: %q", got)
	}
	s.sh("a", "echo mine >file; echo mine >$HOME/file; echo mine >$TMPDIR/other")
	if got := s.sh("a", "cat file $HOME/file $TMPDIR/other"); got != "mine\nmine\nmine" {
		t.Errorf("its own files: %q", got)
	}
	if got := s.sh("b", "ls . $HOME $TMPDIR"); strings.Contains(got, "file") || strings.Contains(got, "other") {
		t.Errorf("the other function has %q", got)
	}
	dirs := strings.Fields(s.sh("a", "pwd; echo $HOME $TMPDIR"))
	s.do("DELETE", "/api/functions/a", nil)
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	if got := s.sh("b", "cat note"); got != "same" {
		t.Errorf("the package of the function that stays: %q", got)
	}
}

// With users of their own, functions see nothing of each other. Only root can do that; anybody else
// gets an error.
func TestFunctionsWithUsersCannotReadEachOther(t *testing.T) {
	dir := openDir(t)
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		for _, opt := range []Option{WithUserRange(612_000, 100), WithUser(612_000, 612_000), WithNamespaces(PIDNamespace)} {
			_, err := New(WithDir(dir), opt)
			if code := faas.CodeOf(err); code != faas.ErrPermissionDenied && code != faas.ErrUnsupported ||
				!strings.Contains(err.Error(), "needs") {
				t.Errorf("got %v", err)
			}
		}
		return
	}
	s := newServer(t, WithDir(dir), WithUserRange(612_000, 100))
	s.putShell("a", "a's package", map[string]any{"env_vars": map[string]any{"SECRET": "a's environment"}})
	s.putShell("b", "b's package", nil)
	s.putShell("also-a", "a's package", nil)
	if i := s.p.Isolation(); i.Users != "own" {
		t.Errorf("%+v", i)
	}
	users := map[string]bool{}
	for _, id := range []string{"a", "b", "also-a"} {
		user := s.sh(id, "id -u")
		if n, _ := strconv.Atoi(user); n < 612_000 || n >= 612_100 {
			t.Errorf("%s runs as %s", id, user)
		}
		users[user] = true
	}
	if len(users) != 3 {
		t.Errorf("users %v", users)
	}
	// a owns a file, its package, and the environment of a running process.
	s.sh("a", "umask 0; echo a file >file")
	home := s.sh("a", "pwd")
	pkg := s.sh("a", "dirname $(readlink note)")
	running := make(chan string)
	go func() {
		running <- s.invoke("a", 0, "echo $$ >running; while [ ! -e stop ]; do sleep 0.01; done").result()
	}()
	var pid string
	for pid == "" {
		text, _ := os.ReadFile(filepath.Join(home, "running"))
		if strings.HasSuffix(string(text), "\n") {
			pid = strings.TrimSpace(string(text))
		}
		time.Sleep(time.Millisecond)
	}
	for _, read := range []string{"cat " + home + "/file", "ls " + home, "cat " + pkg + "/note", "ls " + pkg,
		"ls " + filepath.Dir(pkg), "cat /proc/" + pid + "/environ", "ls -l /proc/" + pid + "/cwd/",
		"kill -0 " + pid, "ls " + dir + "/functions", "cat " + dir + "/functions/*", "cat " + dir + "/lock", "ls " + dir,
		"echo >" + pkg + "/note", "rm -f " + pkg + "/note"} {
		if got := s.sh("b", read+" && echo done"); strings.Contains(got, "a's") || strings.Contains(got, "done") ||
			!strings.Contains(got, "denied") && !strings.Contains(got, "not permitted") {
			t.Errorf("%s: %q", read, got)
		}
	}
	if got := s.sh("a", "cat file "+pkg+"/note"); got != "a file\na's package" {
		t.Errorf("its own: %q", got)
	}
	if got := s.sh("also-a", "cat note"); got != "a's package" {
		t.Errorf("the same package in another function: %q", got)
	}
	if got := s.sh("a", "echo >"+pkg+"/note; cat note"); !strings.Contains(got, "a's package") {
		t.Errorf("a changed its package: %q", got)
	}
	s.sh("a", "touch stop")
	<-running
	// Nobody can read a package that no function runs, even if it is kept to be restored.
	s.putShell2(t, "a", "a's new package")
	if got := s.sh("b", "cat "+pkg+"/note"); strings.Contains(got, "a's") {
		t.Errorf("%q", got)
	}
}

// putShell2 replaces a function that putShell deployed.
func (s *server) putShell2(t *testing.T, id, note string) {
	t.Helper()
	pkg := makeZip(t, file{"bootstrap", 0o755, "#!/bin/sh\n" + shell}, file{"note", 0o644, note})
	s.mustPut(id, pkg, "X-Blueprint-If-Exists", "replace")
}

func TestUsersRunOutWithAClearError(t *testing.T) {
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("TestFunctionsWithUsersCannotReadEachOther has what others than root get")
	}
	s := newServer(t, WithDir(openDir(t)), WithUserRange(612_200, 3))
	s.putShell("a", "one", nil)
	s.putShell("b", "one", nil)
	a := s.put("c", scriptZip(t, "true"))
	if a.status != http.StatusRequestEntityTooLarge || !strings.Contains(fmt.Sprint(a.body["error"]), "all 3 users") {
		t.Errorf("%d %v", a.status, a.body)
	}
	s.do("DELETE", "/api/functions/a", nil)
	s.do("DELETE", "/api/functions/b", nil)
	s.putShell("c", "two", nil)
	if got := s.sh("c", "cat note"); got != "two" {
		t.Error(got)
	}
}

func TestOneUserForAll(t *testing.T) {
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("TestFunctionsWithUsersCannotReadEachOther has what others than root get")
	}
	s := newServer(t, WithDir(openDir(t)), WithUser(612_301, 612_302),
		WithNamespaces(PIDNamespace|IPCNamespace|NetworkNamespace))
	s.putShell("a", "x", nil)
	s.putJobs("jobs", nil)
	if got := s.sh("a", "id -u; id -g; cat note; echo >file && cat file"); got != "612301\n612302\nx" {
		t.Error(got)
	}
	if got := s.mustInvoke("jobs", jobPID, ""); got != "1" {
		t.Errorf("process %s in its namespace", got)
	}
	if i := s.p.Isolation(); i.Users != "one" || i.Namespaces != "pid,ipc,network" {
		t.Errorf("%+v", i)
	}
}

func TestOptionsThatCannotBeHeldAreRefused(t *testing.T) {
	for _, opts := range [][]Option{
		{WithUser(0, 5)}, {WithUserRange(0, 5)}, {WithUserRange(5, 0)}, {WithUserRange(1<<31, 5)},
		{WithLimits(Limits{MaxTasks: -1})}, {WithLimits(Limits{MaxOpenFiles: -1})},
		{WithNamespaces(64)},
	} {
		p, err := New(opts...)
		if faas.CodeOf(err) != faas.ErrInvalidArgument {
			t.Errorf("got %v", err)
		}
		if err == nil {
			_ = p.Close()
		}
	}
	if _, err := New(WithoutCgroups(), WithMemoryPerCPU(1769)); faas.CodeOf(err) != faas.ErrUnsupported ||
		!strings.Contains(err.Error(), "WithMemoryPerCPU needs control groups") {
		t.Errorf("got %v", err)
	}
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		parent := t.TempDir()
		if err := os.Chmod(parent, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := New(WithDir(filepath.Join(parent, "platform")), WithUserRange(612_000, 10)); faas.CodeOf(
			err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), "cannot enter") {
			t.Errorf("got %v", err)
		}
	}
}

// cgroupsOf returns the control groups of a process in the hierarchies that this machine has.
func cgroupsOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// cgroupDirs returns the control groups of the platforms that use the directory, wherever they are.
func cgroupDirs(t testing.TB, dir string) (found []string) {
	t.Helper()
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	prefix := groupsOf(dir)
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		if !strings.HasPrefix(after, "cgroup") {
			continue
		}
		_ = filepath.WalkDir(strings.Fields(before)[4], func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), prefix) {
				found = append(found, path)
				return filepath.SkipDir
			}
			return nil
		})
	}
	return found
}

func TestLimitsAreInForceAndReported(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("limits hold on Linux only")
	}
	for name, opts := range map[string][]Option{"what there is": nil, "no control groups": {WithoutCgroups()}} {
		t.Run(name, func(t *testing.T) {
			opts := append(opts, WithLimits(Limits{MaxTasks: 64, MaxOpenFiles: 64}))
			s := newServer(t, opts...)
			i := s.p.Isolation()
			if name == "no control groups" && (i.Memory != "watched" || i.Tasks != "watched" || i.Strays != "searched" ||
				len(cgroupDirs(t, s.p.Dir())) > 0) {
				t.Errorf("%+v, control groups %v", i, cgroupDirs(t, s.p.Dir()))
			}
			resp, err := s.c.Get(s.url + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			want := fmt.Sprintf(`blueprint_platform_isolation_info{memory="%s",tasks="%s",cpu="none",`+
				`open_files="rlimit",strays="%s",users="shared",namespaces=""} 1`, i.Memory, i.Tasks, i.Strays)
			for sc, found := bufio.NewScanner(resp.Body), false; !found; found = sc.Text() == want {
				if !sc.Scan() {
					t.Errorf("the metrics lack %s", want)
					break
				}
			}
			s.putJobs("jobs", map[string]any{"memory_mb": 128})
			pid, _ := strconv.Atoi(s.mustInvoke("jobs", jobPID, ""))
			for deadline := time.Now().Add(aWhile); i.Memory != "watched" &&
				strings.Count(cgroupsOf(t, pid), cgroupPrefix) < len(cgroupDirs(t, s.p.Dir())); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the process is in\n%s\nand there are %v", cgroupsOf(t, pid), cgroupDirs(t, s.p.Dir()))
				}
			}
			limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
			if err != nil {
				t.Fatal(err)
			}
			for what, value := range map[string]string{"Max open files": "64 64", "Max core file size": "0 0"} {
				if !slices.ContainsFunc(strings.Split(string(limits), "\n"), func(line string) bool {
					rest, is := strings.CutPrefix(line, what)
					return is && strings.HasPrefix(strings.Join(strings.Fields(rest), " "), value)
				}) {
					t.Errorf("%s is not %s in\n%s", what, value, limits)
				}
			}
			a := s.invoke("jobs", jobEat, "")
			if text := fmt.Sprint(a.body["error"]); a.status != 500 || !strings.Contains(text, "out of memory") ||
				!strings.Contains(text, "its limit of 128 MiB of memory and was killed") {
				t.Errorf("%d %v", a.status, a.body)
			}
			if got := s.mustInvoke("jobs", jobEcho, "next"); got != "next" {
				t.Error(got)
			}
		})
	}
}

func TestCPUFromMemory(t *testing.T) {
	p, err := New(WithMemoryPerCPU(1024))
	if err != nil {
		if faas.CodeOf(err) != faas.ErrUnsupported || !strings.Contains(err.Error(), "WithMemoryPerCPU") {
			t.Errorf("got %v", err)
		}
		return
	}
	defer p.Close()
	if c := p.confine(&config{MemoryMB: 256}, (*worker.User)(nil)); c.CPUs != 0.25 {
		t.Errorf("%v processors", c.CPUs)
	}
	if i := p.Isolation(); !strings.HasPrefix(i.CPU, "cgroup v") {
		t.Errorf("%+v", i)
	}
	if len(cgroupDirs(t, p.Dir())) == 0 {
		t.Error("no control groups are noted")
	}
}

// goneDirs waits until the directories are gone.
func goneDirs(t *testing.T, dirs []string) {
	t.Helper()
	for _, d := range dirs {
		for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(d); errors.Is(err, os.ErrNotExist) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s is left", d)
				break
			}
		}
	}
}

// leave is a shell script that leaves two processes and prints their ids: one in a session of its
// own, and one without parents and environment, too.
const leave = `setsid sleep 1000 >/dev/null 2>&1 & echo $!
env -i PATH="$PATH" setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'
`

func pidsIn(t *testing.T, text string) (pids []int) {
	t.Helper()
	for _, line := range strings.Fields(text) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) != 2 {
		t.Fatalf("%q are not two processes", text)
	}
	return pids
}

func TestNothingIsLeftOfAPlatform(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("finds what left its session on Linux only")
	}
	for name, opts := range map[string][]Option{"what there is": nil, "no control groups": {WithoutCgroups()}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newServer(t, append(opts, WithDir(dir))...)
			s.putJobs("f", nil)
			s.mustPut("script", scriptZip(t, "{ "+leave+"} >"+dir+"/new; mv "+dir+"/new "+dir+"/pid; wait"))
			s.putShell("shell", "x", nil)
			s.putShell("kept", "y", nil)
			strays, kept := pidsIn(t, s.sh("shell", leave)), pidsIn(t, s.sh("kept", leave))
			first := cgroupDirs(t, s.p.Dir())
			if groups := s.p.Isolation().Strays == "cgroup"; groups != (len(first) > 0) {
				t.Errorf("%+v with control groups %v", s.p.Isolation(), first)
			}
			s.do("DELETE", "/api/functions/shell", nil)
			for _, pid := range strays {
				gone(t, pid)
			}
			for _, pid := range kept {
				if opts != nil && ended(pid) { // else a control group ended it with its call
					t.Errorf("process %d of another function ended with it", pid)
				}
			}
			if err := s.p.Close(); err != nil {
				t.Fatal(err)
			}
			for _, pid := range kept {
				gone(t, pid)
			}
			goneDirs(t, first)

			exe, _ := os.Executable()
			host := exec.Command(exe)
			host.Env = append(os.Environ(), "TEST_HOST="+dir)
			if opts != nil {
				host.Env = append(host.Env, "TEST_HOST_WITHOUT_CGROUPS=1")
			}
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			sc := bufio.NewScanner(out)
			lines := ""
			for i := range 4 { // the last two are the ids of what the script has left
				if !sc.Scan() {
					t.Fatal("the host did not come up")
				}
				if i >= 2 {
					lines += sc.Text() + "\n"
				}
			}
			strays = pidsIn(t, lines)
			killed := cgroupDirs(t, s.p.Dir())
			if (len(killed) > 0) != (len(first) > 0) {
				t.Errorf("control groups %v", killed)
			}
			_ = host.Process.Kill()
			_ = host.Wait()
			for _, pid := range strays {
				gone(t, pid) // before any other platform looks
			}
			next, err := New(append(opts, WithDir(dir))...)
			if err != nil {
				t.Fatal(err)
			}
			goneDirs(t, killed)
			if err := next.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
