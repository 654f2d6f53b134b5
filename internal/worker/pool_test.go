//go:build unix

package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// aWhile is long enough for everything that should happen at once.
const aWhile = 30 * time.Second

var modes = []string{"frames", "stdio"}

func newPool(t *testing.T, mode string, change func(*Config)) *Pool {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Path: exe, Env: []string{"JOB_MODE=" + mode, "COLOUR=green", "GORACE=atexit_sleep_ms=0"},
		Dir: t.TempDir(), Frames: mode != "stdio"}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Close(ctx)
	})
	return p
}

func mustInvoke(t *testing.T, p *Pool, job uint32, args string) string {
	t.Helper()
	out, _, err := p.Invoke(t.Context(), job, []byte(args), aWhile)
	if err != nil {
		t.Fatalf("job %d: %v", job, err)
	}
	return string(out)
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(aWhile); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d still runs", pid)
}

// running returns the processes that have not ended.
func running(pids []int) (list []int) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			list = append(list, pid)
		}
	}
	return list
}

// runSlow starts a call that takes a while, and returns when it has begun.
func runSlow(p *Pool) <-chan error {
	before := p.Stats().Total
	done := make(chan error, 1)
	go func() {
		out, _, err := p.Invoke(context.Background(), jobSlow, []byte("s"), aWhile)
		if err == nil && string(out) != "s" {
			err = fmt.Errorf("answer %q", out)
		}
		done <- err
	}()
	// on a busy machine it may end before it is seen
	for s := p.Stats(); s.Running == 0 && s.Total == before; s = p.Stats() {
		time.Sleep(time.Millisecond)
	}
	return done
}

func TestInvokeAnswers(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			p := newPool(t, mode, nil)
			for _, args := range []string{"", "a", "hello", strings.Repeat("x", 100_000)} {
				if got := mustInvoke(t, p, jobEcho, args); got != args {
					t.Errorf("echo of %d bytes gave %d bytes", len(args), len(got))
				}
			}
			if s := p.Stats(); s.Total != 4 || s.Running != 0 || s.Failures != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestManyCallsAtOnceEachGetTheirOwnAnswer(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MaxConcurrency, c.MaxWorkers = 16, 2 })
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 20 {
				want := strings.Repeat(fmt.Sprintf("%d.%d ", i, j), 1+(i*j*37)%3000)
				out, _, err := p.Invoke(context.Background(), jobEcho, []byte(want), aWhile)
				if err != nil || string(out) != want {
					t.Errorf("call %d.%d: %d of %d bytes, %v", i, j, len(out), len(want), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A failure reaches its caller with what is known, and the next call succeeds.
func TestFailures(t *testing.T) {
	tests := []struct {
		name     string
		job      uint32
		timeout  time.Duration
		code     faas.Code
		typ      string
		exitCode int
		text     string // in the error
	}{
		{"exit", jobExit, aWhile, faas.ErrFunctionFailed, "exit", 3, "cannot go on"},
		{"killed", jobKill, aWhile, faas.ErrFunctionFailed, "killed", 0, "signal"},
		{"hung", jobHang, 50 * time.Millisecond, faas.ErrTimeout, "", 0, "timeout of 50ms"},
		{"garbage", jobPrint, aWhile, faas.ErrFunctionFailed, "protocol", 0, ""},
		{"job error", jobFail, aWhile, faas.ErrFunctionFailed, "", 0, "no such cat"},
		{"memory", jobEat, aWhile, faas.ErrFunctionFailed, "out of memory", -1, "limit of 128 MiB"},
	}
	for _, mode := range modes {
		for _, tt := range tests {
			t.Run(mode+"/"+tt.name, func(t *testing.T) {
				if tt.name == "memory" && runtime.GOOS != "linux" {
					t.Skip("memory limits hold on Linux only")
				}
				p := newPool(t, mode, func(c *Config) { c.MemoryMB, c.MaxWorkers = 128, 1 })
				_, _, err := p.Invoke(t.Context(), tt.job, []byte("a"), tt.timeout)
				var e *faas.Error
				if !errors.As(err, &e) || e.Code != tt.code || e.JobID != int64(tt.job) || e.NotRun {
					t.Fatalf("got %#v", err)
				}
				if !strings.Contains(err.Error(), tt.text) {
					t.Errorf("error %q lacks %q", err, tt.text)
				}
				if tt.code == faas.ErrFunctionFailed {
					var f *faas.FunctionError
					if !errors.As(err, &f) || f.Type != tt.typ || tt.exitCode >= 0 && f.ExitCode != tt.exitCode {
						t.Errorf("cause %+v", f)
					}
				}
				if got := mustInvoke(t, p, jobEcho, "still here"); got != "still here" {
					t.Errorf("next call: %q", got)
				}
			})
		}
	}
}

func TestCrashFailsOnlyTheCallsOnThatProcess(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MaxWorkers = 2 })
	if n, err := p.Warm(t.Context(), 2); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	slow := runSlow(p)
	// The least loaded process takes this call.
	if _, _, err := p.Invoke(t.Context(), jobExit, nil, aWhile); faas.CodeOf(err) != faas.ErrFunctionFailed {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Errorf("the call on the other process: %v", err)
	}
}

func TestTimeoutKillsTheGroupButNotTheCallsBeside(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MaxWorkers, c.Grace = 1, 20*time.Millisecond })
	child, _ := strconv.Atoi(mustInvoke(t, p, jobFork, ""))
	slow := runSlow(p)
	if _, _, err := p.Invoke(t.Context(), jobHang, nil, 10*time.Millisecond); faas.CodeOf(err) != faas.ErrTimeout {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Errorf("the call beside the hung one: %v", err)
	}
	gone(t, child)
}

func TestForkedChildrenEndWithTheirProcess(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			p := newPool(t, mode, nil)
			child, err := strconv.Atoi(mustInvoke(t, p, jobFork, ""))
			if err != nil {
				t.Fatal(err)
			}
			if mode == "frames" {
				if err := p.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			gone(t, child)
		})
	}
}

func TestCallerGivesUp(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			p := newPool(t, mode, func(c *Config) { c.MaxWorkers, c.Grace = 1, 10*time.Millisecond })
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, _, err := p.Invoke(ctx, jobHang, nil, aWhile)
			if faas.CodeOf(err) != faas.ErrTimeout || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			mustInvoke(t, p, jobEcho, "next")
		})
	}
}

func TestStartFailures(t *testing.T) {
	tests := []struct {
		mode, typ, text string
		exit            int
	}{
		{"dies", "exit", "no configuration", 7},
		{"garbage", "protocol", "frame", 0},
		{"silent", "start", "hello within 100ms", 0},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			p := newPool(t, tt.mode, func(c *Config) { c.StartTimeout = 100 * time.Millisecond })
			if tt.mode != "silent" {
				p.cfg.StartTimeout = aWhile
			}
			_, _, err := p.Invoke(t.Context(), 0, nil, aWhile)
			var f *faas.FunctionError
			if !errors.As(err, &f) || f.Type != tt.typ || f.ExitCode != tt.exit || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v (%+v)", err, f)
			}
			if s := p.Stats(); s.Failures != 1 || s.LastError == nil {
				t.Errorf("stats %+v", s)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		p := newPool(t, "frames", func(c *Config) { c.Path = "/no/such/binary" })
		if _, _, err := p.Invoke(t.Context(), 0, nil, aWhile); faas.CodeOf(err) != faas.ErrUnavailable {
			t.Error(err)
		}
	})
}

// A process that stops reading must not block the callers that write to it.
func TestDeafProcessDoesNotHoldCallers(t *testing.T) {
	p := newPool(t, "deaf", func(c *Config) { c.MaxWorkers, c.Grace = 1, 10*time.Millisecond })
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			_, _, err := p.Invoke(context.Background(), jobEcho, make([]byte, 1<<20), 100*time.Millisecond)
			if err == nil {
				t.Error("answered")
			}
		})
	}
	wg.Wait()
}

func TestQueueIsBounded(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MaxConcurrency, c.MaxQueue = 1, 1 })
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for range 2 { // they hang until the test has seen the queue full
		calls.Go(func() { _, _, _ = p.Invoke(ctx, jobHang, nil, aWhile) })
	}
	for s := p.Stats(); s.Running+s.Waiting < 2; s = p.Stats() {
		time.Sleep(time.Millisecond)
	}
	_, _, err := p.Invoke(t.Context(), jobEcho, nil, aWhile)
	var e *faas.Error
	if !errors.As(err, &e) || e.Code != faas.ErrThrottled || !e.NotRun || e.RetryAfter <= 0 {
		t.Errorf("got %#v", err)
	}
	cancel()
	calls.Wait()
	if got := mustInvoke(t, p, jobEcho, "next"); got != "next" {
		t.Error(got)
	}
}

func TestOutputLimit(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			p := newPool(t, mode, func(c *Config) { c.MaxOutput = 1 << 20 })
			if got := mustInvoke(t, p, jobBig, "\x01"); len(got) != 1<<20 {
				t.Error(len(got))
			}
			if _, _, err := p.Invoke(t.Context(), jobBig, []byte{3}, aWhile); faas.CodeOf(err) != faas.ErrTooLarge {
				t.Error(err)
			}
			mustInvoke(t, p, jobEcho, "next")
		})
	}
}

// Only a part of a long failure message is kept.
func TestMessagesOfFailuresAreCut(t *testing.T) {
	for _, mode := range modes {
		p := newPool(t, mode, func(c *Config) { c.SpoolDir, c.Budget = t.TempDir(), NewBudget(64<<20) })
		_, _, err := p.Invoke(t.Context(), jobShout, []byte{5}, aWhile)
		var f *faas.FunctionError
		if !errors.As(err, &f) || !strings.HasPrefix(f.Message, "aaah aaah") || len(f.Message) > 64<<10 {
			t.Errorf("%s: got %.100v", mode, err)
		}
		if used := p.cfg.Budget.Used(); used != 0 {
			t.Errorf("%s: %d bytes are not given back", mode, used)
		}
	}
}

// Large answers take their memory from the budget before they are read, and wait for it. An answer
// that the budget can never hold is too large.
func TestAnswersWaitForTheirMemory(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			b := NewBudget(4 << 20)
			p := newPool(t, mode, func(c *Config) { c.SpoolDir, c.Budget, c.MaxWorkers = t.TempDir(), b, 4 })
			first, _, err := p.Invoke(t.Context(), jobBig, []byte{3}, aWhile)
			if err != nil || len(first) != 3<<20 || b.Used() != Counted(len(first)) {
				t.Fatalf("%d bytes of %d that are held, %v", len(first), b.Used(), err)
			}
			second := make(chan int)
			go func() {
				out, _, err := p.Invoke(context.Background(), jobBig, []byte{2}, aWhile)
				if err != nil {
					t.Error(err)
				}
				second <- len(out)
			}()
			for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) {
				b.mu.Lock()
				waiting := len(b.waiters)
				b.mu.Unlock()
				if waiting == 1 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the second answer does not wait")
				}
			}
			b.Give(Counted(len(first)))
			if n := <-second; n != 2<<20 || b.Used() != Counted(n) {
				t.Errorf("%d bytes, %d are held", n, b.Used())
			}
			b.Give(Counted(2 << 20))
			if _, _, err := p.Invoke(t.Context(), jobBig, []byte{5}, aWhile); faas.CodeOf(err) != faas.ErrTooLarge {
				t.Errorf("got %v", err)
			}
			if b.Used() != 0 {
				t.Errorf("%d bytes are not given back", b.Used())
			}
			if left, err := os.ReadDir(p.cfg.SpoolDir); err != nil || len(left) > 0 {
				t.Errorf("files %v are left, %v", left, err)
			}
		})
	}
}

func TestByteListsAreWrittenInPieces(t *testing.T) {
	for _, n := range []int{0, 1, 2, 255, listChunk - 1, listChunk, listChunk + 1, 3*listChunk + 7} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 7)
		}
		var text bytes.Buffer
		if err := writeRequest(&text, 42, b); err != nil {
			t.Fatal(err)
		}
		if want := faas.AppendRequest(nil, 42, b); !bytes.Equal(text.Bytes(), want) ||
			ByteListSize(b) != len(want)-len(`{"job_id":42,"args":[]}`) {
			t.Errorf("%d bytes: %.80s, want %.80s", n, text.Bytes(), want)
		}
	}
}

func TestProcessesSeeOnlyTheirOwnEnvironment(t *testing.T) {
	t.Setenv("HOST_SECRET", "do not pass on")
	for _, mode := range modes {
		p := newPool(t, mode, nil)
		names := map[string]bool{}
		for _, kv := range strings.Split(mustInvoke(t, p, jobEnv, ""), "\n") {
			name, _, _ := strings.Cut(kv, "=")
			names[name] = true
		}
		want := map[string]bool{"PATH": true, "HOME": true, "TMPDIR": true, "JOB_MODE": true, "COLOUR": true, "GORACE": true,
			proctree.EnvName: true}
		if mode == "frames" {
			want["BLUEPRINT_JOB_PROTOCOL"] = true
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s: %s", mode, diff)
		}
	}
}

func TestIdleProcessesEndAndComeBack(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.IdleTimeout = 20 * time.Millisecond })
	pid, _ := strconv.Atoi(mustInvoke(t, p, jobPID, ""))
	gone(t, pid)
	if again := mustInvoke(t, p, jobPID, ""); again == strconv.Itoa(pid) {
		t.Error("the same process answered")
	}
	if s := p.Stats(); s.Failures != 0 {
		t.Errorf("an idle end counts as failure: %+v", s)
	}
}

func TestMinWorkersAreKeptAlive(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MinWorkers = 1 })
	workers := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(aWhile); p.Stats().Workers != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%+v", p.Stats())
			}
		}
	}
	workers(1)
	pid := p.Stats().PIDs[0]
	_ = syscall.Kill(pid, syscall.SIGKILL)
	gone(t, pid)
	for deadline := time.Now().Add(aWhile); p.Stats().Starts < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not restarted")
		}
	}
	workers(1)
}

func TestCloseLetsRunningCallsEnd(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			p := newPool(t, mode, nil)
			done := runSlow(p)
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			_, _, err := p.Invoke(t.Context(), jobEcho, nil, aWhile)
			var e *faas.Error
			if !errors.As(err, &e) || e.Code != faas.ErrUnavailable || !e.NotRun || !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

func TestCloseCutsOffWhatDoesNotEnd(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			p := newPool(t, mode, nil)
			done := make(chan error, 1)
			go func() {
				_, _, err := p.Invoke(context.Background(), jobHang, nil, aWhile)
				done <- err
			}()
			for s := p.Stats(); s.Running == 0 || len(s.PIDs) == 0; s = p.Stats() {
				time.Sleep(time.Millisecond)
			}
			pids := p.Stats().PIDs
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if err := p.Close(ctx); faas.CodeOf(err) != faas.ErrTimeout {
				t.Error(err)
			}
			if err := <-done; faas.CodeOf(err) != faas.ErrUnavailable {
				t.Error(err)
			}
			for _, pid := range pids {
				gone(t, pid)
			}
		})
	}
}

func TestCloseDoesNotWaitForAProcessThatNeverStarts(t *testing.T) {
	p := newPool(t, "silent", func(c *Config) { c.MinWorkers, c.StartTimeout = 1, time.Hour })
	for len(p.Stats().PIDs) == 0 {
		time.Sleep(time.Millisecond)
	}
	pid := p.Stats().PIDs[0]
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	gone(t, pid)
}
