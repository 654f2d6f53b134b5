package job_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/faas/job"
)

// jobsEnv makes the test binary a job binary.
const jobsEnv = "JOB_TEST_BINARY"

// The jobs of the test binary.
const (
	square uint32 = iota
	echo
	fails
	panics
	goexits
	prints
	waits // until its context is done, and returns that error
	gated // creates the file named by its arguments, and returns when that is gone
	deadline
	big // output of as many bytes as its arguments say
	readsStdin
	touches // as many bytes of memory as its arguments say
	absent
)

func jobs() job.Handlers {
	return job.Handlers{
		square: func(_ context.Context, args []byte) ([]byte, error) {
			if len(args) != 8 {
				return nil, fmt.Errorf("square wants 8 bytes, got %d", len(args))
			}
			x := binary.LittleEndian.Uint64(args)
			return binary.LittleEndian.AppendUint64(nil, x*x), nil
		},
		echo:    func(_ context.Context, args []byte) ([]byte, error) { return args, nil },
		fails:   func(context.Context, []byte) ([]byte, error) { return []byte("ignored"), errors.New("no luck") },
		panics:  func(context.Context, []byte) ([]byte, error) { panic("out of cheese") },
		goexits: func(context.Context, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil },
		prints: func(_ context.Context, args []byte) ([]byte, error) {
			fmt.Println("printed by Go")
			if runtime.GOOS == "windows" {
				fmt.Println("printed by a child on its own")
				return args, nil
			}
			cmd := exec.Command("/bin/sh", "-c", "echo printed by a child ${BLUEPRINT_JOB_PROTOCOL-on its own}")
			cmd.Stdout = os.Stdout
			return args, cmd.Run()
		},
		waits: func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("gave up: %w", ctx.Err())
		},
		gated: func(_ context.Context, args []byte) ([]byte, error) {
			if err := os.WriteFile(string(args), nil, 0o600); err != nil {
				return nil, err
			}
			for {
				if _, err := os.Stat(string(args)); err != nil {
					return []byte("done"), nil
				}
				time.Sleep(time.Millisecond)
			}
		},
		deadline: func(ctx context.Context, _ []byte) ([]byte, error) {
			at, ok := ctx.Deadline()
			if !ok {
				return []byte("none"), nil
			}
			return []byte(time.Until(at).Round(time.Minute).String()), nil
		},
		big: func(_ context.Context, args []byte) ([]byte, error) {
			return make([]byte, binary.LittleEndian.Uint64(args)), nil
		},
		readsStdin: func(context.Context, []byte) ([]byte, error) {
			text, err := io.ReadAll(os.Stdin)
			return text, err
		},
		touches: func(_ context.Context, args []byte) ([]byte, error) {
			memory := make([]byte, binary.LittleEndian.Uint64(args))
			for i := 0; i < len(memory); i += 4 << 10 {
				memory[i] = 1
			}
			runtime.KeepAlive(memory)
			return nil, nil
		},
		absent: nil,
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(jobsEnv) != "" {
		job.Main(jobs())
	}
	goleak.VerifyTestMain(m)
}

// tail is a buffer that may be read while a process writes to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.Write(b)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// binaryCmd is the test binary as a job binary, with env and without this process's variables
// that choose a protocol.
func binaryCmd(tb testing.TB, env ...string) (*exec.Cmd, *tail) {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(exe, "-unknown-flag", "serve")
	for _, kept := range os.Environ() {
		// A coverage run wants its directory, Windows its system root.
		if name, _, _ := strings.Cut(kept, "="); name == "GOCOVERDIR" || name == "SYSTEMROOT" || name == "PATH" {
			cmd.Env = append(cmd.Env, kept)
		}
	}
	cmd.Env = append(append(cmd.Env, jobsEnv+"=1", "GORACE=atexit_sleep_ms=0"), env...)
	log := &tail{}
	cmd.Stderr = log
	return cmd, log
}

// await waits for a state, and fails only when the test run itself is out of patience.
func await(t testing.TB, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if reached() {
			return
		}
	}
	t.Fatalf("waited a minute for %s", what)
}

func uint64Bytes(x uint64) []byte { return binary.LittleEndian.AppendUint64(nil, x) }
