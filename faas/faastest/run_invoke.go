package faastest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func (s *suite) invoking(t *testing.T) {
	service := s.service("invoke")
	exec := s.open(t, service)
	functions := s.functions(JobEcho, JobSquare, JobFail, JobPanic, JobSleep, JobExit, JobCount, JobAnswer)
	s.converge(t, exec, s.wanted(t, exec, functions))

	t.Run("gives back every payload as it was", func(t *testing.T) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		large := make([]byte, 512<<10)
		source := rand.NewChaCha8([32]byte{})
		_, _ = source.Read(large) // never fails
		for name, payload := range map[string][]byte{
			"nil": nil, "empty": {}, "one byte": {0}, "all byte values": all, "large": large} {
			r, err := exec.as(t).Invoke(s.ctx(t), JobEcho, payload)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(r.Output, payload) {
				t.Errorf("%s: %d bytes came back changed (%d bytes)", name, len(payload), len(r.Output))
			}
			if r.Metrics.Total <= 0 {
				t.Errorf("%s: the total time is %v", name, r.Metrics.Total)
			}
		}
	})
	t.Run("keeps neither arguments nor output", func(t *testing.T) {
		args := []byte("first")
		first, err := exec.as(t).Invoke(s.ctx(t), JobEcho, args)
		if err != nil {
			t.Fatal(err)
		}
		copy(args, "XXXXX")
		if string(first.Output) != "first" {
			t.Errorf("the output changed to %q when the arguments were", first.Output)
		}
		if got := s.invoke(t, exec.as(t), JobEcho, "other"); got != "other" || string(first.Output) != "first" {
			t.Errorf("outputs %q and %q, want first and other", first.Output, got)
		}
	})
	t.Run("runs many jobs at the same time without mixing them up", func(t *testing.T) {
		var group sync.WaitGroup
		for i := range 16 {
			group.Go(func() {
				for j := range 4 {
					n := uint64(1000*i + j)
					r, err := exec.as(t).Invoke(s.ctx(t), JobSquare, binary.LittleEndian.AppendUint64(nil, n))
					if err != nil {
						t.Errorf("square of %d: %v", n, err)
					} else if got := binary.LittleEndian.Uint64(r.Output); got != n*n {
						t.Errorf("square of %d is %d", n, got)
					}
				}
			})
		}
		group.Wait()
	})
	t.Run("a job without a function is NotFound and was not run", func(t *testing.T) {
		_, err := exec.as(t).Invoke(s.ctx(t), 4242, nil)
		wantCode(t, err, faas.ErrNotFound)
		if !asError(err).NotRun {
			t.Error("NotRun is false")
		}
	})
	t.Run("a job's error is FunctionFailed with its message", func(t *testing.T) {
		_, err := exec.as(t).Invoke(s.ctx(t), JobFail, []byte("the moon is full"))
		s.wantFailed(t, err, "the moon is full")
	})
	t.Run("a job's panic is FunctionFailed, and the next call is answered", func(t *testing.T) {
		for range 2 {
			_, err := exec.as(t).Invoke(s.ctx(t), JobPanic, []byte("out of cheese"))
			s.wantFailed(t, err, "out of cheese")
		}
		s.invoke(t, exec.as(t), JobEcho, "x")
	})
	t.Run("a process that ends is FunctionFailed, and the next call is answered", func(t *testing.T) {
		for range 2 {
			_, err := exec.as(t).Invoke(s.ctx(t), JobExit, []byte("3"))
			s.wantFailed(t, err, "")
		}
	})
	t.Run("arguments above the limit are TooLarge before the call", func(t *testing.T) {
		_, err := exec.as(t).Invoke(s.ctx(t), JobEcho, make([]byte, int(s.h.Limits.MaxPayloadMB)<<20+1))
		wantCode(t, err, faas.ErrTooLarge)
		if !asError(err).NotRun {
			t.Error("NotRun is false")
		}
	})
	if s.h.Limits.MaxPayloadMB <= 10 {
		t.Run("an answer above the limit is TooLarge", func(t *testing.T) {
			_, err := exec.as(t).Invoke(s.ctx(t), JobAnswer, fmt.Append(nil, int(s.h.Limits.MaxPayloadMB)<<20+1))
			wantCode(t, err, faas.ErrTooLarge)
			if asError(err).NotRun {
				t.Error("NotRun is true")
			}
		})
	}
	t.Run("a context that is done is Timeout", func(t *testing.T) {
		ctx, cancel := context.WithCancel(s.ctx(t))
		cancel()
		_, err := exec.as(t).Invoke(ctx, JobEcho, nil)
		wantCode(t, err, faas.ErrTimeout)
	})
	t.Run("a context that ends during the call ends the call with Timeout", func(t *testing.T) {
		for _, cancelled := range []bool{true, false} {
			ctx, cancel := context.WithTimeout(s.ctx(t), 200*time.Millisecond)
			if cancelled {
				ctx, cancel = context.WithCancel(s.ctx(t))
				time.AfterFunc(200*time.Millisecond, cancel)
			}
			_, err := exec.as(t).Invoke(ctx, JobSleep, []byte("50000"))
			cancel()
			wantCode(t, err, faas.ErrTimeout)
		}
		s.invoke(t, exec.as(t), JobSleep, "1")
	})
	t.Run("a call that is not answered is not repeated", func(t *testing.T) { s.once(t, exec.as(t), service) })
	t.Run("a function that takes longer than its timeout is Timeout", func(t *testing.T) { s.timeout(t) })
	t.Run("Warm", func(t *testing.T) { s.warm(t, exec) })
	t.Run("Health", func(t *testing.T) { s.health(t, exec) })
}

func (s *suite) wantFailed(t *testing.T, err error, message string) {
	t.Helper()
	wantCode(t, err, faas.ErrFunctionFailed)
	var failed *faas.FunctionError
	if errors.As(err, &failed) && !strings.Contains(failed.Message, message) {
		t.Errorf("the function's message is %q, want %q in it", failed.Message, message)
	}
	if asError(err).NotRun {
		t.Error("NotRun is true")
	}
}

// once counts the runs in a file, which the function writes, so it works if functions run on this
// machine.
func (s *suite) once(t *testing.T, exec *watched, service string) {
	if s.h.OpenLossy == nil {
		t.Skip("the harness has no OpenLossy")
	}
	lossy := s.h.OpenLossy(t, service)
	defer lossy.Close()
	name := filepath.Join(t.TempDir(), "runs")
	r, err := lossy.Invoke(s.ctx(t), JobCount, []byte(name))
	if r != nil {
		t.Errorf("the lost answer was returned: %v", r)
	}
	wantCode(t, err, faas.ErrUnavailable, faas.ErrTimeout)
	if asError(err).NotRun {
		t.Error("NotRun is true")
	}
	if text, err := os.ReadFile(name); err != nil || len(text) != 1 {
		t.Errorf("the job ran %d times (%v)", len(text), err)
	}
}

func (s *suite) timeout(t *testing.T) {
	if s.h.NoTimeouts {
		t.Skip("the platform under test does not enforce timeouts")
	}
	exec := s.open(t, s.service("timeout"))
	functions := s.functions(JobSleep)
	functions[0].TimeoutSecs = 1
	s.converge(t, exec, s.wanted(t, exec, functions))
	_, err := exec.Invoke(s.ctx(t), JobSleep, []byte("50000"))
	wantCode(t, err, faas.ErrTimeout)
	if asError(err).NotRun {
		t.Error("NotRun is true")
	}
	s.invoke(t, exec, JobSleep, "1")
}

func (s *suite) warm(t *testing.T, exec *watched) {
	exec = exec.as(t)
	n, err := exec.Warm(s.ctx(t), JobEcho, 2)
	if faas.CodeOf(err) == faas.ErrUnsupported {
		t.Skip("the platform cannot warm")
	}
	if err != nil || n < 1 {
		t.Errorf("Warm: %d instances, error %v", n, err)
	}
	for _, n := range []int{0, -1} {
		n, err := exec.Warm(s.ctx(t), JobEcho, n)
		if wantCode(t, err, faas.ErrInvalidArgument); n != 0 {
			t.Errorf("Warm refused, and started %d instances", n)
		}
	}
	_, err = exec.Warm(s.ctx(t), 4242, 1)
	wantCode(t, err, faas.ErrNotFound)
}

func (s *suite) health(t *testing.T, exec *watched) {
	exec = exec.as(t)
	health, err := exec.Health(s.ctx(t), JobEcho)
	if faas.CodeOf(err) == faas.ErrUnsupported {
		t.Skip("the platform cannot tell health")
	}
	if err != nil || !health.Healthy {
		t.Errorf("Health: %+v, error %v", health, err)
	}
	_, err = exec.Health(s.ctx(t), 4242)
	wantCode(t, err, faas.ErrNotFound)
}
