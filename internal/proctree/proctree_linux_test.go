package proctree_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a shell script with the mark, and returns when the script says, with a line, that it
// is ready.
func start(t *testing.T, mark proctree.Mark, script string) *exec.Cmd {
	t.Helper()
	// The script waits for a line, so that it starts nothing before the mark is put.
	cmd := exec.Command("/bin/sh", "-c", "read -r go\n"+script)
	cmd.Dir = t.TempDir()
	cmd.Env = mark.AddTo([]string{"PATH=" + os.Getenv("PATH"), "DIR=" + cmd.Dir})
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	if err := mark.Put(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// await waits for a file that a script writes, and returns the process id in it.
func await(t *testing.T, path string) int {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(path)
		if pid, aerr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && aerr == nil &&
			strings.HasSuffix(string(text), "\n") {
			return pid
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s was not written: %v", path, err)
		}
	}
}

func alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestWhatEscapesIsKilled(t *testing.T) {
	const stay = `'echo $$ >"$0"; while :; do sleep 0.05; done' pid`
	for name, script := range map[string]string{
		"a child":         `sh -c ` + stay + ` & wait`,
		"another session": `setsid sh -c ` + stay + ` & wait`,
		"nobody's child":  `(setsid sh -c ` + stay + ` &) ; exit`,
		"nobody's child with an environment": `(setsid env -i PATH="$PATH" sh -c ` + stay +
			` </dev/null >/dev/null 2>&1 &) ; exit`,
		"another value of the mark": `(BLUEPRINT_RUNNER_ID=other setsid sh -c ` + stay + ` &) ; exit`,
		"an environment, and its parent runs": `(env -i PATH="$PATH" setsid sh -c ` + stay +
			` &) ; while :; do sleep 0.05; done`,
		"deaf to signals": `setsid sh -c 'trap "" TERM HUP INT; echo $$ >"$0"; while :; do sleep 0.05; done' pid & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mark, other := proctree.New(), proctree.New()
			bystander := start(t, other, "echo $$ >pid; while :; do sleep 0.05; done")
			await(t, filepath.Join(bystander.Dir, "pid"))
			cmd := start(t, mark, script)
			pid := await(t, filepath.Join(cmd.Dir, "pid"))
			if !alive(pid) || !mark.Exists() {
				t.Fatalf("it does not run (alive: %t, found: %t)", alive(pid), mark.Exists())
			}
			if err := mark.Kill(t.Context()); err != nil {
				t.Error(err)
			}
			if alive(pid) || mark.Exists() {
				t.Errorf("it runs still (alive: %t, found: %t)", alive(pid), mark.Exists())
			}
			_ = cmd.Wait() // it was killed
			if !alive(bystander.Process.Pid) {
				t.Error("a process with another mark was killed")
			}
			if err := other.Kill(t.Context()); err != nil {
				t.Error(err)
			}
			_ = bystander.Wait()
		})
	}
}

// The process starts others as fast as it can, each in a session of its own.
func TestWhatStartsOthersAllTheTimeIsKilled(t *testing.T) {
	mark := proctree.New()
	cmd := start(t, mark, `
cat >again <<'END'
[ -e pid ] || echo $$ >pid
i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.01; done
setsid sh again & setsid sh again &
while :; do sleep 0.05; done
END
sh again & wait`)
	await(t, filepath.Join(cmd.Dir, "pid"))
	if err := mark.Kill(t.Context()); err != nil || mark.Exists() {
		t.Errorf("%v, or something is left: %t", err, mark.Exists())
	}
	_ = cmd.Wait()
}

func TestWhatIsAskedMayEndInItsTime(t *testing.T) {
	mark := proctree.New()
	cmd := start(t, mark,
		`setsid sh -c 'trap "echo 1 >asked; exit" TERM; echo $$ >pid; while :; do sleep 0.02; done' & wait`)
	await(t, filepath.Join(cmd.Dir, "pid"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := mark.Await(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what does not end: %v", err)
	}
	mark.Terminate(0)
	go func() { _ = cmd.Wait() }()
	if err := mark.Await(t.Context()); err != nil {
		t.Error(err)
	}
	if await(t, filepath.Join(cmd.Dir, "asked")) != 1 {
		t.Error("it was not asked")
	}
}

func TestWhatIsLeftIsNamed(t *testing.T) {
	err := error(&proctree.Left{Processes: []string{"12 (sh)", "13 (sleep)"}, Cause: context.DeadlineExceeded})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "12 (sh), 13 (sleep)") {
		t.Errorf("error %v", err)
	}
}

// A process carries the marks of its starter and of the starter's starter.
func TestMarksAreCarriedBesideOthers(t *testing.T) {
	outer, inner, part := proctree.New(), proctree.New(), proctree.Mark("OF-A-MARK")
	cmd := exec.Command("/bin/sh", "-c", "echo $$ >pid; while :; do sleep 0.05; done")
	cmd.Dir = t.TempDir()
	cmd.Env = inner.AddTo(outer.AddTo([]string{"OTHER=" + string(part), proctree.EnvName + "=ONE-" + string(part),
		"PATH=" + os.Getenv("PATH")}))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, filepath.Join(cmd.Dir, "pid"))
	for mark, want := range map[proctree.Mark]bool{
		outer: true, inner: true, "ONE-" + part: true, part: false, proctree.New(): false} {
		if mark.Exists() != want {
			t.Errorf("%s is carried: %t, want %t", mark, !want, want)
		}
	}
	if err := outer.Kill(t.Context()); err != nil || inner.Exists() {
		t.Errorf("%v, or it is left: %t", err, inner.Exists())
	}
	_ = cmd.Wait() // it was killed
}

func TestNoMarkFindsNothing(t *testing.T) {
	var none proctree.Mark
	if none.Exists() {
		t.Error("the zero value is carried by something")
	}
	if err := none.Kill(t.Context()); err != nil {
		t.Error(err)
	}
}
