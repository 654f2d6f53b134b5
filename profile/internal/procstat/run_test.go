package procstat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The test binary is also the measured process.
const behaviourEnv = "MEASURE_TEST_BEHAVIOUR"

func TestMain(m *testing.M) {
	if behaviour := os.Getenv(behaviourEnv); behaviour != "" {
		behave(behaviour)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func behave(behaviour string) {
	verb, arg, _ := strings.Cut(behaviour, " ")
	switch verb {
	case "echo":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			panic(err)
		}
	case "exit":
		fmt.Fprint(os.Stderr, strings.Repeat("x", 8<<10)+"\nthe last words\n")
		code, _ := strconv.Atoi(arg)
		os.Exit(code)
	case "hang":
		fmt.Print("ready")
		time.Sleep(time.Hour)
	case "pour":
		for {
			if _, err := os.Stdout.Write(make([]byte, 1<<16)); err != nil {
				time.Sleep(time.Hour) // it does not notice that nobody reads
			}
		}
	case "take":
		mib, _ := strconv.Atoi(arg)
		held := touch(mib << 20)
		time.Sleep(20 * time.Millisecond)
		fmt.Print(len(held))
		runtime.KeepAlive(held)
	case "fork": // leaves a child that holds the output open
		child := exec.Command(os.Args[0])
		child.Env = []string{behaviourEnv + "=hang", "GORACE=atexit_sleep_ms=0"}
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Print(child.Process.Pid, ";")
	case "env":
		fmt.Print(strings.Join(os.Environ(), "\n"))
	}
}

func spec(t *testing.T, behaviour string) Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{behaviourEnv + "=" + behaviour, "GORACE=atexit_sleep_ms=0"}
	if root := os.Getenv("SystemRoot"); root != "" {
		env = append(env, "SystemRoot="+root)
	}
	return Spec{Path: self, Env: env, Timeout: time.Minute, MaxOutput: 1 << 20}
}

func TestRunGivesTheOutputAndTheTime(t *testing.T) {
	s := spec(t, "echo")
	s.Input = bytes.Repeat([]byte("abc"), 100<<10)
	usage, err := Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(usage.Output, s.Input) {
		t.Errorf("%d bytes came back of %d", len(usage.Output), len(s.Input))
	}
	if usage.Duration <= 0 || usage.PeakMemory < 1<<20 {
		t.Errorf("usage %v, %d bytes", usage.Duration, usage.PeakMemory)
	}
}

func TestRunPassesOnlyTheGivenEnvironment(t *testing.T) {
	t.Setenv("MEASURE_TEST_SECRET", "x")
	usage, err := Run(t.Context(), spec(t, "env"))
	if err != nil || strings.Contains(string(usage.Output), "SECRET") {
		t.Errorf("%s, %v", usage.Output, err)
	}
}

func TestRunReportsAFailedProcess(t *testing.T) {
	usage, err := Run(t.Context(), spec(t, "exit 3"))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("error = %v", err)
	}
	if !strings.HasSuffix(usage.Stderr, "\nthe last words\n") || len(usage.Stderr) > 4<<10 {
		t.Errorf("stderr = %d bytes, %q", len(usage.Stderr), usage.Stderr)
	}
}

func TestRunEndsAtTheTimeout(t *testing.T) {
	s := spec(t, "hang")
	s.Timeout = 300 * time.Millisecond
	if _, err := Run(t.Context(), s); !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "300ms") {
		t.Errorf("error = %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, err := Run(ctx, spec(t, "hang")); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func TestRunBoundsTheOutput(t *testing.T) {
	s := spec(t, "pour")
	usage, err := Run(t.Context(), s)
	if !errors.Is(err, ErrOutput) || len(usage.Output) > s.MaxOutput {
		t.Errorf("%d bytes, error %v", len(usage.Output), err)
	}
}

func TestRunSaysWhatCannotBeStarted(t *testing.T) {
	s := spec(t, "")
	s.Path += "-that-does-not-exist"
	if _, err := Run(t.Context(), s); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
}

func BenchmarkRun(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Run(b.Context(), Spec{Path: self, Env: []string{behaviourEnv + "=echo"}, Timeout: time.Minute,
			MaxOutput: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
