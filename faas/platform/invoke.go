package platform

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// Invoke runs a job of a deployed function, without HTTP. Its promises and errors are those of [faas.Invoker]; a function that does not exist is an
// ErrNotFound, and so is a job that its binary does not have.
func (p *Platform) Invoke(ctx context.Context, functionID string, jobID uint32, args []byte) (*faas.Result, error) {
	began := time.Now()
	output, m, err := p.invoke(ctx, functionID, jobID, args)
	if err != nil {
		return nil, err
	}
	m.Total = time.Since(began)
	return &faas.Result{Output: output, Metrics: m}, nil
}

func (p *Platform) invoke(ctx context.Context, id string, jobID uint32, args []byte) ([]byte, faas.Metrics, error) {
	began := time.Now()
	for {
		f, err := p.lookup("invoke", id)
		if err != nil {
			return nil, faas.Metrics{}, forJob(err, jobID)
		}
		if limit := p.opts.limits.MaxPayloadMB << 20; len(args) > limit {
			return nil, faas.Metrics{}, forJob(notRunError(faas.ErrTooLarge, "invoke", "the arguments are %d bytes, the limit is %d", len(args), limit), jobID)
		}
		if f.broken != nil {
			return nil, faas.Metrics{}, forJob(notRunError(faas.ErrUnavailable, "invoke", "the function could not be brought back: %w", f.broken), jobID)
		}
		output, m, err := f.pool.Invoke(ctx, jobID, args, f.timeout())
		if errors.Is(err, worker.ErrClosed) {
			continue // it was replaced or removed in this moment
		}
		f.counts.total.Add(1)
		now := time.Now()
		f.counts.last.Store(now.UnixNano())
		f.counts.calls.add(now.Sub(began), m.ColdStart, err)
		return output, m, err
	}
}

func forJob(err error, jobID uint32) error {
	var e *faas.Error
	if !errors.As(err, &e) || e.JobID != faas.NoJob {
		return err
	}
	c := *e // callers that failed together share the error
	c.JobID = int64(jobID)
	return &c
}

// buffer holds a request's or an answer's JSON, and the arguments.
type buffer struct{ text, args []byte }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// keepBuffer is the largest buffer that is kept for the next small call.
const keepBuffer = 1 << 20

func (b *buffer) free() {
	b.text, b.args = largeTexts.put(b.text), largeArgs.put(b.args)
	buffers.Put(b)
}

// large keeps buffers for large calls, apart from those for small ones, until the garbage collector takes them.
type large struct{ pool sync.Pool }

var largeTexts, largeArgs large

// get returns buf, emptied, or one that was put before, where n bytes are expected for which buf is too small.
func (l *large) get(buf []byte, n int) []byte {
	if n > keepBuffer && n > cap(buf) {
		if kept, ok := l.pool.Get().(*[]byte); ok {
			return (*kept)[:0]
		}
	}
	return buf[:0]
}

// put keeps buf if it is large. It returns what its owner keeps.
func (l *large) put(buf []byte) []byte {
	if cap(buf) <= keepBuffer {
		return buf
	}
	l.pool.Put(&buf)
	return nil
}

var jsonType = []string{"application/json"}

func (p *Platform) serveInvoke(w http.ResponseWriter, r *http.Request, id string) {
	b := buffers.Get().(*buffer)
	defer b.free()
	var err error
	held := int64(0)
	defer func() { p.buffered.give(held) }()
	if b.text, err = p.readBody(w, r, largeTexts.get(b.text, int(r.ContentLength)), &held); err != nil {
		writeError(w, err)
		return
	}
	jobID, args, err := faas.ParseRequest(largeArgs.get(b.args, len(b.text)/4), b.text)
	if err != nil {
		writeError(w, err)
		return
	}
	b.args = args
	if len(b.text) > keepBuffer { // the arguments are all that has to wait
		b.text = largeTexts.put(b.text)
		p.buffered.give(held - int64(len(args)))
		held = int64(len(args))
	}
	output, m, err := p.invoke(r.Context(), id, jobID, args)
	if err != nil {
		writeInvokeError(w, jobID, err)
		return
	}
	b.text = faas.AppendResponse(largeTexts.get(b.text, faas.MaxRequestSize(len(output))), &faas.Response{
		JobID: jobID, Result: output, Success: true, ExecutionMS: float64(m.Execution.Microseconds()) / 1000, MemoryUsedMB: m.MemoryMB,
	})
	h := w.Header()
	h["Content-Type"] = jsonType
	if len(b.text) > 2048 { // net/http counts what is shorter
		h["Content-Length"] = []string{strconv.Itoa(len(b.text))}
	}
	if len(b.text) > uncounted {
		p.writeLarge(w, b.text)
		return
	}
	_, _ = w.Write(b.text) // a client that is gone has no use for the error
}

// slowest is how many bytes of a large answer a client has to take in a second, after the first [Limits.RequestTimeout].
const slowest = 256 << 10

// writeLarge writes an answer that does not fit into the connection's buffers. A client that does not take it must not make it stay in memory.
func (p *Platform) writeLarge(w http.ResponseWriter, text []byte) {
	p.buffered.force(int64(len(text)))
	defer p.buffered.give(int64(len(text)))
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(p.opts.limits.RequestTimeout + time.Duration(len(text)/slowest)*time.Second))
	if _, err := w.Write(text); err == nil && control.Flush() == nil {
		_ = control.SetWriteDeadline(time.Time{})
	}
}

// readBody reads the body of a request, within the platform's limits of size, time and memory. It adds to held what it took of the latter.
func (p *Platform) readBody(w http.ResponseWriter, r *http.Request, buf []byte, held *int64) ([]byte, error) {
	limit := int64(faas.MaxRequestSize(p.opts.limits.MaxPayloadMB << 20))
	if r.ContentLength > limit {
		p.discardBody(w, r, limit)
		return buf, tooLargeBody(limit)
	}
	control := http.NewResponseController(w)
	if p.buffered.full() || !p.hold(held, r.ContentLength) {
		p.discardBody(w, r, limit)
		return buf, p.buffered.refusal()
	}
	if n := int(r.ContentLength); n > cap(buf) && n <= 1<<20 {
		buf = make([]byte, 0, n+1) // one more, so that the end is seen without growing
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		if r.ContentLength < 0 && !p.hold(held, int64(len(buf))) {
			p.discardBody(w, r, limit)
			return buf, p.buffered.refusal()
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			p.discardBody(w, r, limit)
			return buf, tooLargeBody(limit)
		}
		if errors.Is(err, io.EOF) {
			_ = control.SetReadDeadline(time.Time{})
			return buf, nil
		}
		if err != nil {
			w.Header().Set("Connection", "close")
			return buf, notRunError(faas.ErrInvalidArgument, "read request", "the body did not arrive: %w", err)
		}
	}
}

// hold makes held n bytes of the budget where that is worth counting, and says whether there were so many.
func (p *Platform) hold(held *int64, n int64) bool {
	if n <= uncounted || n <= *held {
		return true
	}
	if !p.buffered.take(n - *held) {
		return false
	}
	*held = n
	return true
}

func tooLargeBody(limit int64) error {
	return notRunError(faas.ErrTooLarge, "read request", "the body is larger than %d bytes, the limit", limit)
}

// discardBody reads some of a body that is refused, so that the client gets to read the answer, and then has the connection closed.
func (p *Platform) discardBody(w http.ResponseWriter, r *http.Request, most int64) {
	w.Header().Set("Connection", "close")
	if r.Header.Get("Expect") != "" { // it has not been asked to send
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(min(p.opts.limits.RequestTimeout, 10*time.Second)))
	_, _ = io.CopyN(io.Discard, r.Body, most+16<<20)
}
