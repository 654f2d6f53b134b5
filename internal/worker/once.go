package worker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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

// runOnce runs one call in its own process.
func (p *Pool) runOnce(ctx context.Context, jobID uint32, args []byte, timeout time.Duration) ([]byte, faas.Metrics,
	error) {
	var m faas.Metrics
	began := time.Now()
	proc, err := startProcess(p.host, &p.cfg)
	if err != nil {
		e := p.errorf(faas.ErrUnavailable, int64(jobID), "invoke", "the job binary cannot be started: %w", startCause(err))
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
		request := bufio.NewWriterSize(proc.stdin, 32<<10)
		_ = errors.Join(writeRequest(request, jobID, args), request.Flush()) // a process may answer without reading
		_ = proc.stdin.Close()
	}()
	answer := &spool{dir: p.cfg.SpoolDir, memory: buffers.Get().(*bytes.Buffer)}
	defer putBuffer(answer.memory)
	defer answer.close()
	limit := 4*p.cfg.MaxOutput + 4096 // a byte takes up to four characters of JSON
	tooLarge := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		if answer.fill(proc.stdout, limit+1); answer.size > limit || answer.err != nil {
			close(tooLarge)
		}
	}()

	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var failed *faas.Error
	select {
	case <-proc.exited:
	case <-timer.C:
		failed = p.timedOut(jobID, timeout)
	case <-ctx.Done():
		failed = p.cancelled(ctx, jobID)
	case <-tooLarge:
	}
	proc.kill()
	<-proc.exited
	<-read
	_ = proc.stdout.Close()
	<-written
	m.Execution = time.Since(began)
	m.MemoryMB = proc.peakMB()
	switch {
	case failed != nil:
	case answer.err != nil:
		failed = p.errorf(faas.ErrInternal, int64(jobID), "invoke", "the answer cannot be kept until it is whole: %w",
			answer.err)
	case answer.size > limit:
		failed = p.errorf(faas.ErrTooLarge, int64(jobID), "invoke", "the answer is more than %d bytes of JSON, the limit",
			limit)
	}
	if failed != nil {
		p.tell(proc.pid, failed.Err.Error())
		return nil, m, failed
	}
	output, err := p.answer(ctx, proc, answer, jobID)
	if err != nil && p.stopped.Load() {
		return nil, m, p.stoppedError()
	}
	p.note(err)
	return output, m, err
}

// answer reads what a process wrote that has ended.
func (p *Pool) answer(ctx context.Context, proc *process, text *spool, jobID uint32) (output []byte, err error) {
	var r faas.Response
	begin, parseErr := text.parse(p.cfg.Budget, ctx.Done(), &r)
	defer func() {
		if err != nil && p.cfg.Budget != nil {
			p.cfg.Budget.Give(Counted(len(r.Result)))
		}
	}()
	if errors.Is(parseErr, errNoRoom) {
		return nil, p.noRoom(int64(jobID), text.most)
	}
	if len(r.Error) > maxMessage {
		r.Error = strings.ToValidUTF8(strings.Clone(r.Error[:maxMessage]), "")
	}
	cause := proc.failure()
	if cause.Type != "exit" || cause.ExitCode != 0 {
		p.tellEnd(proc.pid, cause)
		if cause.Type == "exit" && parseErr == nil && !r.Success && r.Error != "" {
			cause.Type, cause.Message = "", r.Error // the process itself says that the job failed
		}
		return nil, p.functionError(int64(jobID), cause, false)
	}
	switch {
	case begin == nil && parseErr == nil:
		cause.Type, cause.Message = "protocol", "the process exited with code 0 and answered nothing on its standard output"
		return nil, p.functionError(int64(jobID), cause, false)
	case parseErr != nil:
		cause.Type, cause.Message = "protocol", fmt.Sprintf(
			"the answer on standard output is not the JSON of a response: %v; it begins %q", parseErr, begin)
		return nil, p.functionError(int64(jobID), cause, false)
	case !r.Success:
		cause.Type, cause.Message = "", orDefault(r.Error, "the job answered success: false without an error")
		return nil, p.functionError(int64(jobID), cause, false)
	case int64(len(r.Result)) > p.cfg.MaxOutput:
		return nil, p.errorf(faas.ErrTooLarge, int64(jobID), "invoke", "the answer is %d bytes, the limit is %d",
			len(r.Result), p.cfg.MaxOutput)
	}
	if r.Result == nil {
		r.Result = []byte{}
	}
	return r.Result, nil
}

// listBegin and listEnd are what faas.AppendRequest writes around the list of bytes.
const listBegin, listEnd = `{"job_id":0,"args":[`, `]}`

// listChunk is how many bytes are converted to JSON at a time.
const listChunk = 8 << 10

// WriteByteList writes b as the numbers of a JSON list, without its brackets. It writes in chunks:
// as a whole the numbers would take up to four times the memory of b.
func WriteByteList(w io.Writer, b []byte) error {
	text := make([]byte, 0, faas.MaxRequestSize(min(len(b), listChunk))+1)
	for first := true; len(b) > 0; first = false {
		n := min(len(b), listChunk)
		text = faas.AppendRequest(append(text[:0], ','), 0, b[:n])
		from := 1 + len(listBegin)
		if !first {
			from--
			text[from] = ',' // instead of the bracket
		}
		if _, err := w.Write(text[from : len(text)-len(listEnd)]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// ByteListSize returns how many bytes WriteByteList writes.
func ByteListSize(b []byte) (n int) {
	for _, c := range b {
		n += digits[c]
	}
	return n + max(len(b)-1, 0)
}

// digits has the number of digits of each byte.
var digits = func() (d [256]int) {
	for c := range d {
		d[c] = 1
		if c > 9 {
			d[c]++
		}
		if c > 99 {
			d[c]++
		}
	}
	return d
}()

// writeRequest writes the JSON of an invocation as faas.AppendRequest does.
func writeRequest(w io.Writer, jobID uint32, args []byte) error {
	text := faas.AppendRequest(nil, jobID, nil)
	begin, end := text[:len(text)-len(listEnd)], text[len(text)-len(listEnd):]
	if _, err := w.Write(begin); err != nil {
		return err
	}
	if err := WriteByteList(w, args); err != nil {
		return err
	}
	_, err := w.Write(end)
	return err
}
