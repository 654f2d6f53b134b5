//go:build linux || darwin

package detached_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/orchestrator/internal/detached"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(t *testing.T, script string) detached.Config {
	t.Helper()
	dir := t.TempDir()
	return detached.Config{
		Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=" + os.Getenv("PATH"), "GREETING=hello"}, Dir: dir,
		Output: filepath.Join(dir, "log"), Status: filepath.Join(dir, "status"),
	}
}

func start(t *testing.T, c detached.Config) detached.Process {
	t.Helper()
	p, err := detached.Start(c, func(detached.Process) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background(), 0) })
	return p
}

func await(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !isSo(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for too long until %s", what)
		}
	}
}

func logs(c detached.Config, text string) func() bool {
	return func() bool {
		log, _ := os.ReadFile(c.Output)
		return strings.Contains(string(log), text)
	}
}

func TestTheProcessRunsAndStopsGracefully(t *testing.T) {
	c := config(t, `trap 'echo graceful; exit' TERM; echo "$GREETING $1"; while :; do sleep 0.01; done`)
	c.Args = append(c.Args, "sh", "with spaces")
	p := start(t, c)
	await(t, "it says hello", logs(c, "hello with spaces"))
	if !p.Alive() {
		t.Error("it is not alive")
	}
	elsewhen := p
	elsewhen.Start = "1@another-start-of-the-machine"
	if elsewhen.Alive() {
		t.Error("another process of the same id is taken for it")
	}
	if err := elsewhen.Stop(t.Context(), time.Minute); err != nil || !p.Alive() {
		t.Errorf("stopping a process that is no more: %v, alive: %t", err, p.Alive())
	}
	for range 2 {
		if err := p.Stop(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if p.Alive() || !logs(c, "graceful")() {
		t.Errorf("alive: %t, ended gracefully: %t", p.Alive(), logs(c, "graceful")())
	}
}

func TestAProcessThatDoesNotStopIsKilledWithItsGroup(t *testing.T) {
	c := config(t, `trap '' TERM; echo up; while :; do sleep 0.01; done`)
	p := start(t, c)
	await(t, "it is up", logs(c, "up"))
	if err := p.Stop(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("it is alive")
	}
}

func TestAProcessThatEndsIsStartedAgainAndCounted(t *testing.T) {
	c := config(t, `echo once more; exit 3`)
	p := start(t, c)
	await(t, "it has ended twice", func() bool { return p.Ends() >= 2 })
	if !logs(c, "once more\nonce more\n")() {
		t.Error("it was not started again")
	}
	if err := p.Stop(t.Context(), time.Minute); err != nil || p.Alive() {
		t.Errorf("%v, alive: %t", err, p.Alive())
	}
}

// A process that was not recorded must not run: nobody would ever find it.
func TestAProcessThatCannotBeRecordedNeverRuns(t *testing.T) {
	c := config(t, `echo up`)
	var p detached.Process
	_, err := detached.Start(c, func(got detached.Process) error { p = got; return errors.New("no room") })
	if err == nil || p.PID == 0 {
		t.Fatalf("process %+v, error %v", p, err)
	}
	await(t, "it has ended", func() bool { return !p.Alive() })
	if logs(c, "up")() {
		t.Error("it ran")
	}
}
