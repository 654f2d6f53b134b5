package faastest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest/internal/testjobs"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// Invoke runs the cloud's [Job] on the caller's goroutine.
func (e *MemoryExecutor) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	start := time.Now()
	c := e.cloud
	call := Call{Op: OpInvoke, Job: int64(jobID)}
	notRun := func(code faas.Code, format string, args ...any) error {
		err := e.error(call, code, format, args...)
		err.NotRun = true
		return err
	}
	limit := int(c.limits.MaxPayloadMB) << 20
	if len(args) > limit {
		return nil, notRun(faas.ErrTooLarge, "the arguments are %d bytes, the limit is %d", len(args), limit)
	}
	fault, err := c.enter(ctx, call)
	if err != nil {
		return nil, err
	}

	c.mu.Lock()
	u, f := e.function(jobID)
	switch {
	case u == nil:
		err = notRun(faas.ErrNotFound, "service %q has no function for this job", e.service)
	case u.status != faas.StatusReady:
		err = notRun(faas.ErrUnavailable, "the function is %s: %s", u.status, u.reason)
	case f.MaxConcurrency > 0 && u.running[jobID] >= int(f.MaxConcurrency):
		err = notRun(faas.ErrThrottled, "%d invocations are running, which is the function's limit", u.running[jobID])
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	u.running[jobID]++
	u.total[jobID]++
	u.last[jobID] = time.Now()
	log := u.logOf(jobID)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		u.running[jobID]--
		c.mu.Unlock()
	}()

	timeout := time.Duration(f.TimeoutSecs) * time.Second
	runCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	started := time.Now()
	output, err := c.run(context.WithValue(runCtx, stderrKey{}, lineWriter{log}), f, bytes.Clone(args))
	execution := time.Since(started)
	switch {
	case ctx.Err() != nil:
		err = e.error(call, faas.ErrTimeout, "the caller did not wait for the answer: %w", context.Cause(ctx))
	case runCtx.Err() != nil:
		err = e.error(call, faas.ErrTimeout, "the function did not answer within its timeout of %v", timeout)
	case err != nil:
		var failed *faas.FunctionError
		if !errors.As(err, &failed) {
			failed = &faas.FunctionError{Type: "error", Message: err.Error()}
		}
		err = e.error(call, faas.ErrFunctionFailed, "%w", failed)
	case len(output) > limit:
		err = e.error(call, faas.ErrTooLarge, "the job has run, and its answer is %d bytes, above the limit of %d",
			len(output), limit)
	}
	if err = fault.after(call, c.provider, err); err != nil {
		return nil, err
	}
	if output == nil {
		output = []byte{}
	}
	return &faas.Result{Output: output, Metrics: faas.Metrics{Total: time.Since(start), Execution: execution}}, nil
}

// run calls the job and makes a panic its error.
func (c *Cloud) run(ctx context.Context, f faas.Function, args []byte) (output []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &faas.FunctionError{Type: "panic", Message: fmt.Sprint(p)}
		}
	}()
	return c.job(ctx, f, args)
}

// Warm reports n: an in-memory function is always warm.
func (e *MemoryExecutor) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	call := Call{Op: OpWarm, Job: int64(jobID)}
	if n < 1 {
		return 0, e.error(call, faas.ErrInvalidArgument, "%d instances: at least 1", n)
	}
	fault, err := e.cloud.enter(ctx, call)
	if err != nil {
		return 0, err
	}
	e.cloud.mu.Lock()
	defer e.cloud.mu.Unlock()
	if u, _ := e.function(jobID); u == nil {
		return 0, e.error(call, faas.ErrNotFound, "service %q has no function for this job", e.service)
	}
	if err := fault.after(call, e.cloud.provider, nil); err != nil {
		return 0, err
	}
	return n, nil
}

// Health reports whether the unit is ready, and how often the job was invoked.
func (e *MemoryExecutor) Health(ctx context.Context, jobID uint32) (faas.Health, error) {
	call := Call{Op: OpHealth, Job: int64(jobID)}
	fault, err := e.cloud.enter(ctx, call)
	if err != nil {
		return faas.Health{}, err
	}
	e.cloud.mu.Lock()
	defer e.cloud.mu.Unlock()
	u, _ := e.function(jobID)
	if u == nil {
		return faas.Health{}, e.error(call, faas.ErrNotFound, "service %q has no function for this job", e.service)
	}
	if err := fault.after(call, e.cloud.provider, nil); err != nil {
		return faas.Health{}, err
	}
	return faas.Health{Healthy: u.status == faas.StatusReady, Reason: u.reason, LastInvocation: u.last[jobID],
		TotalInvocations: u.total[jobID]}, nil
}

// Logs returns what the functions of [RunJob] printed since their unit was made.
func (e *MemoryExecutor) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if err := q.Check(e.cloud.provider); err != nil {
		return logs.Fail(err)
	}
	return func(yield func(faas.LogLine, error) bool) {
		call := Call{Op: OpLogs, Job: faas.NoJob}
		fault, err := e.cloud.enter(ctx, call)
		var sources []logs.Source
		if err == nil {
			sources, err = e.logs(q.JobIDs)
		}
		if err = fault.after(call, e.cloud.provider, err); err != nil {
			yield(faas.LogLine{}, err)
			return
		}
		logs.Logs(ctx, e.cloud.provider, q, sources...)(yield)
	}
}

func (e *MemoryExecutor) logs(jobs []uint32) (sources []logs.Source, err error) {
	e.cloud.mu.Lock()
	defer e.cloud.mu.Unlock()
	for _, jobID := range jobs {
		u, _ := e.function(jobID)
		if u == nil {
			return nil, e.error(Call{Op: OpLogs, Job: int64(jobID)}, faas.ErrNotFound,
				"service %q has no function for this job", e.service)
		}
		sources = append(sources, logs.Source{Ring: u.logOf(jobID), JobID: int64(jobID), FunctionID: u.id})
	}
	return sources, nil
}

// logOf returns the log of a job, which begins with its unit. The caller holds the lock.
func (u *memoryUnit) logOf(jobID uint32) *logs.Ring {
	if u.logs[jobID] == nil {
		u.logs[jobID] = &logs.Ring{}
	}
	return u.logs[jobID]
}

// lineWriter adds every line that is written, in a piece each, to a log.
type lineWriter struct{ log *logs.Ring }

func (w lineWriter) Write(text []byte) (int, error) {
	w.log.Add(time.Now(), 0, bytes.TrimRight(text, "\n"), false)
	return len(text), nil
}

// function finds the unit and function of a job. The caller holds the lock.
func (e *MemoryExecutor) function(jobID uint32) (*memoryUnit, faas.Function) {
	for _, u := range e.cloud.units {
		if u.service != e.service {
			continue
		}
		for _, f := range u.rev.functions {
			if f.JobID == jobID {
				return u, f
			}
		}
	}
	return nil, faas.Function{}
}

// stderrKey is the context key of the writer for what a job prints.
type stderrKey struct{}

// RunJob is the [Job] that does what the functions of [JobBinary] do, without a process. An
// in-memory cloud runs it by default, and fakes of real providers can use it.
func RunJob(ctx context.Context, f faas.Function, args []byte) (output []byte, err error) {
	type exit int
	defer func() {
		switch p := recover().(type) {
		case nil:
		case exit:
			err = &faas.FunctionError{Type: "exit", Message: "the process ended before it answered", ExitCode: int(p)}
		default:
			err = &faas.FunctionError{Type: "panic", Message: fmt.Sprint(p)}
		}
	}()
	stderr, ok := ctx.Value(stderrKey{}).(io.Writer)
	if !ok {
		stderr = io.Discard
	}
	host := testjobs.Host{
		Getenv: func(name string) string { return f.Env[name].Reveal() }, Exit: func(code int) { panic(exit(code)) },
		Executable: os.Executable, Stderr: stderr,
	}
	return host.Run(ctx, f.JobID, args)
}
