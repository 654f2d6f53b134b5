package job

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// maxStdioRequest bounds the request on stdin, in bytes. Frames have the same limit.
const maxStdioRequest = frame.MaxBody

// serveStdio answers the one request on stdin.
//
// A job's failure is in the response and in the exit code, so that a host may rely on either
// alone.
func (p *process) serveStdio(ctx context.Context) error {
	body, err := io.ReadAll(io.LimitReader(p.stdin, maxStdioRequest+1))
	if err != nil {
		return p.refuse(0, fmt.Errorf("reading the request from stdin: %w", err))
	}
	if len(body) > maxStdioRequest {
		return p.refuse(0, fmt.Errorf("the request on stdin is larger than %d bytes", maxStdioRequest))
	}
	if faas.IsWarmRequest(body) {
		return p.answer([]byte(faas.WarmResponse))
	}
	id, args, compact, err := faas.ParseAnyRequest(nil, body)
	if err != nil {
		return p.refuse(0, err)
	}
	output, took, fail := p.await(ctx, id, args)
	if fail != nil && fail.code == frame.UnknownJob {
		return p.refuse(id, fail)
	}
	r := response(id, output, took, fail, peakMemoryMB())
	r.Compact = compact
	if err := p.answer(faas.AppendResponse(nil, r)); err != nil {
		return err
	}
	if fail != nil {
		return fmt.Errorf("%w: job %d: %s", ErrJobFailed, id, fail.message)
	}
	return nil
}

// refuse answers a request that reached no job.
func (p *process) refuse(id uint32, cause error) error {
	if err := p.answer(faas.AppendResponse(nil, &faas.Response{JobID: id, Error: cause.Error()})); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBadRequest, cause)
}

func (p *process) answer(text []byte) error {
	if _, err := p.stdout.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("writing the response to stdout: %w", err)
	}
	return nil
}

// response makes the protocol's answer to a call.
func response(id uint32, output []byte, took time.Duration, fail *failure, memoryMB uint32) *faas.Response {
	r := &faas.Response{JobID: id, ExecutionMS: float64(took.Microseconds()) / 1000, MemoryUsedMB: memoryMB}
	if fail != nil {
		r.Error = fail.message
		return r
	}
	r.Success, r.Result = true, output
	return r
}
