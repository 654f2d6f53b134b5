package provider

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Invoke starts the live revision once. It never starts it twice.
func (e *Executor) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	notRun := func(err *faas.Error) (*faas.Result, error) {
		err.NotRun = true // the caller may repeat the call
		return nil, err
	}
	if limit := int(limits.MaxPayloadMB) << 20; len(args) > limit {
		return notRun(faas.JobErrorf(faas.ErrTooLarge, "invoke", Name, jobID, "the arguments have %d bytes, the limit is %d",
			len(args), limit))
	}
	r, err := e.live(ctx, "invoke", e.unit(jobID))
	if err != nil {
		return notRun(faas.JobErrorf(faas.CodeOf(err), "invoke", Name, jobID, "%w", err))
	}
	timed, cancel := context.WithTimeout(ctx, time.Duration(r.TimeoutSecs)*time.Second)
	defer cancel()
	dir := filepath.Join(e.dir, e.unit(jobID), r.name())
	cmd := exec.CommandContext(timed, filepath.Join(dir, "bootstrap"))
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // and nothing else of this process
	for name, value := range r.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var answer, log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(faas.AppendRequest(nil, jobID, args)), &answer, &log
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return notRun(faas.JobErrorf(faas.ErrUnavailable, "invoke", Name, jobID, "%w", err))
	}
	err = cmd.Wait()
	if timed.Err() != nil {
		return nil, faas.JobErrorf(faas.ErrTimeout, "invoke", Name, jobID, "%w", timed.Err())
	}
	return result(jobID, answer.Bytes(), log.String(), err, time.Since(start))
}

// result reads what a process answered. One that ended badly may have said why.
func result(jobID uint32, answer []byte, log string, exit error, took time.Duration) (*faas.Result, error) {
	var response faas.Response
	err := faas.ParseResponse(answer, &response)
	if err == nil && response.Success {
		if limit := int(limits.MaxPayloadMB) << 20; len(response.Result) > limit {
			return nil, faas.JobErrorf(faas.ErrTooLarge, "invoke", Name, jobID, "the answer has %d bytes, the limit is %d",
				len(response.Result), limit)
		}
		metrics := faas.Metrics{Total: took, Execution: time.Duration(response.ExecutionMS * float64(time.Millisecond)),
			ColdStart: true, MemoryMB: response.MemoryUsedMB}
		return &faas.Result{Output: response.Result, Metrics: metrics}, nil
	}
	failed := &faas.FunctionError{Message: response.Error, LogTail: log}
	var ended *exec.ExitError
	switch {
	case err != nil && errors.As(exit, &ended):
		failed.Type, failed.ExitCode = "exit", ended.ExitCode()
	case err != nil:
		failed.Type, failed.Message = "answer", err.Error()
	}
	return nil, faas.JobErrorf(faas.ErrFunctionFailed, "invoke", Name, jobID, "%w", failed)
}
