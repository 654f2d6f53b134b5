package worker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= keepBuffer {
		b.Reset()
		buffers.Put(b)
	}
}

// runOnce runs one call in a process of its own.
func (p *Pool) runOnce(ctx context.Context, jobID uint32, args []byte, timeout time.Duration) ([]byte, faas.Metrics, error) {
	var m faas.Metrics
	began := time.Now()
	proc, err := startProcess(p.host, &p.cfg)
	if err != nil {
		e := p.errorf(faas.ErrUnavailable, int64(jobID), "invoke", "the job binary cannot be started: %w", err)
		e.NotRun = true
		p.note(e)
		return nil, m, e
	}
	m.ColdStart, m.Init = true, time.Since(began)
	proc.busy.Add(1)
	p.track(proc)
	defer p.untrack(proc)

	written := make(chan struct{})
	go func() {
		defer close(written)
		request := buffers.Get().(*bytes.Buffer)
		request.Write(faas.AppendRequest(request.AvailableBuffer(), jobID, args))
		_, _ = proc.stdin.Write(request.Bytes()) // a process may answer without reading
		_ = proc.stdin.Close()
		putBuffer(request)
	}()
	answer := buffers.Get().(*bytes.Buffer)
	defer putBuffer(answer)
	limit := 4*p.cfg.MaxOutput + 4096 // a byte is up to four characters of JSON
	tooLarge := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		n, _ := answer.ReadFrom(io.LimitReader(proc.stdout, limit+1))
		if n > limit {
			close(tooLarge)
		}
	}()

	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var failed error
	select {
	case <-proc.exited:
	case <-timer.C:
		failed = p.timedOut(jobID, timeout)
	case <-ctx.Done():
		failed = p.cancelled(ctx, jobID)
	case <-tooLarge:
		failed = p.errorf(faas.ErrTooLarge, int64(jobID), "invoke", "the answer is more than %d bytes of JSON, the limit", limit)
	}
	proc.kill()
	<-proc.exited
	<-read
	_ = proc.stdout.Close()
	<-written
	m.Execution = time.Since(began)
	m.MemoryMB = proc.peakMB()
	if failed == nil {
		select {
		case <-tooLarge:
			failed = p.errorf(faas.ErrTooLarge, int64(jobID), "invoke", "the answer is more than %d bytes of JSON, the limit", limit)
		default:
		}
	}
	if failed != nil {
		return nil, m, failed
	}
	output, err := p.answer(proc, answer.Bytes(), jobID)
	if err != nil && p.stopped.Load() {
		return nil, m, p.stoppedError()
	}
	p.note(err)
	return output, m, err
}

// answer reads what a process that ended has written.
func (p *Pool) answer(proc *process, text []byte, jobID uint32) ([]byte, error) {
	var r faas.Response
	parseErr := faas.ParseResponse(bytes.TrimSpace(text), &r)
	cause := proc.failure()
	if cause.Type != "exit" || cause.ExitCode != 0 {
		if cause.Type == "exit" && parseErr == nil && !r.Success && r.Error != "" {
			cause.Type, cause.Message = "", r.Error // it says itself that the job failed
		}
		return nil, p.functionError(int64(jobID), cause, false)
	}
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		cause.Message = "the process exited with code 0 and answered nothing on its standard output"
		return nil, p.functionError(int64(jobID), cause, false)
	case parseErr != nil:
		cause.Type, cause.Message = "protocol", fmt.Sprintf("the answer on standard output is not the JSON of a response: %v; it begins %q", parseErr, text[:min(len(text), 80)])
		return nil, p.functionError(int64(jobID), cause, false)
	case !r.Success:
		cause.Type, cause.Message = "", orDefault(r.Error, "the job answered success: false without an error")
		return nil, p.functionError(int64(jobID), cause, false)
	case int64(len(r.Result)) > p.cfg.MaxOutput:
		return nil, p.errorf(faas.ErrTooLarge, int64(jobID), "invoke", "the answer is %d bytes, the limit is %d", len(r.Result), p.cfg.MaxOutput)
	}
	if r.Result == nil {
		r.Result = []byte{}
	}
	return r.Result, nil
}
