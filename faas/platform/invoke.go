package platform

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// Invoke runs a job of a deployed function, without HTTP. Its promises and errors are those of
// [faas.Invoker]. The error is ErrNotFound if the function does not exist or its binary does not
// have the job.
func (p *Platform) Invoke(ctx context.Context, functionID string, jobID uint32, args []byte) (*faas.Result, error) {
	began := time.Now()
	output, m, err := p.invoke(ctx, functionID, jobID, args)
	if err != nil {
		return nil, err
	}
	p.buffered.Give(worker.Counted(len(output))) // it is the caller's now
	m.Total = time.Since(began)
	return &faas.Result{Output: output, Metrics: m}, nil
}

// invoke is Invoke for callers that return the memory of the answer to the budget.
func (p *Platform) invoke(ctx context.Context, id string, jobID uint32, args []byte) ([]byte, faas.Metrics, error) {
	began := time.Now()
	for {
		f, err := p.lookup("invoke", id)
		if err != nil {
			return nil, faas.Metrics{}, forJob(err, jobID)
		}
		if limit := p.opts.limits.MaxPayloadMB << 20; len(args) > limit {
			return nil, faas.Metrics{}, forJob(notRunError(
				faas.ErrTooLarge, "invoke", "the arguments are %d bytes, the limit is %d", len(args), limit), jobID)
		}
		if f.broken != nil {
			return nil, faas.Metrics{}, forJob(notRunError(
				faas.ErrUnavailable, "invoke", "the function could not be brought back: %w", f.broken), jobID)
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

// buffer holds the JSON of a request or of a small answer, and the arguments.
type buffer struct{ text, args []byte }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// keepBuffer is the largest buffer that is kept for the next small call.
const keepBuffer = 1 << 20

func (b *buffer) free() {
	b.text, b.args = largeTexts.put(b.text), largeArgs.put(b.args)
	buffers.Put(b)
}

// large keeps buffers for large calls, apart from those for small ones, until the garbage collector
// takes them.
type large struct{ pool sync.Pool }

var largeTexts, largeArgs large

// get returns an empty buffer for n bytes: buf if it is large enough, and otherwise one that was
// put before, if any.
func (l *large) get(buf []byte, n int) []byte {
	if n > keepBuffer && n > cap(buf) {
		if kept, ok := l.pool.Get().(*[]byte); ok {
			return (*kept)[:0]
		}
	}
	return buf[:0]
}

// mostKept is the largest buffer that is kept at all. Kept buffers do not count against the budget.
const mostKept = 8 << 20

// put keeps buf if it is large. It returns the buffer that stays with the owner.
func (l *large) put(buf []byte) []byte {
	if cap(buf) <= keepBuffer {
		return buf
	}
	if cap(buf) <= mostKept {
		l.pool.Put(&buf)
	}
	return nil
}

var jsonType = []string{"application/json"}

func (p *Platform) serveInvoke(w http.ResponseWriter, r *http.Request, id string) {
	w.Header()[payloads.FeaturesHeader] = featuresOfInvoke
	b := buffers.Get().(*buffer)
	defer b.free()
	held := int64(0)
	defer func() { p.buffered.GiveForRequest(held) }()
	if payloads.IsCall(r.Header) {
		p.serveRaw(w, r, id, b, &held)
		return
	}
	var err error
	if b.text, err = p.readBody(w, r, largeTexts.get(b.text, int(r.ContentLength)), published, r.ContentLength,
		&held); err != nil {
		writeError(w, err)
		return
	}
	jobID, args, err := faas.ParseRequest(largeArgs.get(b.args, len(b.text)/4), b.text)
	if err != nil {
		writeError(w, err)
		return
	}
	b.args = args
	if len(b.text) > keepBuffer { // the arguments are all that has to wait, and a copy of them on the way to the process
		b.text = largeTexts.put(b.text)
		if rest := 2 * int64(len(args)); rest < held {
			p.buffered.GiveForRequest(held - rest)
			held = rest
		}
	}
	output, m, err := p.invoke(r.Context(), id, jobID, args)
	if err != nil {
		writeInvokeError(w, id, jobID, err)
		return
	}
	defer p.buffered.Give(worker.Counted(len(output)))
	answer := faas.Response{JobID: jobID, Success: true, ExecutionMS: float64(m.Execution.Microseconds()) / 1000,
		MemoryUsedMB: m.MemoryMB}
	if len(output) > smallOutput {
		p.writeLarge(w, &answer, output)
		return
	}
	answer.Result = output
	b.text = faas.AppendResponse(b.text[:0], &answer)
	h := w.Header()
	h["Content-Type"] = jsonType
	if len(b.text) > 2048 { // net/http counts what is shorter
		h["Content-Length"] = []string{strconv.Itoa(len(b.text))}
	}
	p.writeTo(w, len(b.text), func() error {
		_, err := w.Write(b.text)
		return err
	})
}

// featuresOfInvoke are the features that an answer announces, for clients that only invoke.
var featuresOfInvoke = []string{payloads.FeatureRaw}

// serveRaw answers an invocation in the raw form, without converting body or output.
func (p *Platform) serveRaw(w http.ResponseWriter, r *http.Request, id string, b *buffer, held *int64) {
	call, err := payloads.ParseCall(r.Header)
	var args []byte
	if err == nil {
		b.text, err = p.readBody(w, r, largeTexts.get(b.text, int(call.Size)), raw, call.Size, held)
	}
	if err == nil {
		args, err = call.Arguments(b.text)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	output, m, err := p.invoke(r.Context(), id, call.JobID, args)
	if err != nil {
		writeInvokeError(w, id, call.JobID, err)
		return
	}
	defer p.buffered.Give(worker.Counted(len(output)))
	payloads.SetAnswer(w.Header(), &faas.Response{
		JobID: call.JobID, Result: output, ExecutionMS: float64(m.Execution.Microseconds()) / 1000, MemoryUsedMB: m.MemoryMB,
	})
	p.writeTo(w, len(output), func() error {
		_, err := w.Write(output)
		return err
	})
}

// smallOutput is the largest output whose JSON is built as a whole.
const smallOutput = 16 << 10

// writeLarge writes an answer in pieces, because its JSON is up to four times as large as the
// output.
func (p *Platform) writeLarge(w http.ResponseWriter, answer *faas.Response, output []byte) {
	text := faas.AppendResponse(nil, answer)
	begin, end, _ := bytes.Cut(text, []byte("[]"))
	size := len(text) + worker.ByteListSize(output)
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(size)}
	p.writeTo(w, size, func() error {
		_, err := w.Write(append(begin[:len(begin):len(begin)], '['))
		if err == nil {
			err = worker.WriteByteList(w, output)
		}
		if err == nil {
			_, err = w.Write(append([]byte{']'}, end...))
		}
		return err
	})
}

const (
	// slowest is how many bytes per second of an answer a client must take, after the first
	// [Limits.RequestTimeout].
	slowest = 256 << 10
	// ownBuffer is how much of an answer net/http buffers before it writes to the connection.
	ownBuffer = 4 << 10
)

// writeTo writes an answer of size bytes. If the connection may have to wait for the client,
// writeTo sets a deadline: a client that does not take its answer must not keep it in memory.
func (p *Platform) writeTo(w http.ResponseWriter, size int, write func() error) {
	if size <= ownBuffer/2 {
		_ = write() // a client that is gone has no use for the error
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(p.opts.limits.RequestTimeout + time.Duration(size/slowest)*time.Second))
	if write() == nil && control.Flush() == nil {
		_ = control.SetWriteDeadline(time.Time{})
	}
}

// form describes how a request's body contains the arguments.
type form struct {
	most  func(args int) int     // bytes of a body of so many bytes of arguments
	takes func(body int64) int64 // of memory
}

var (
	// The published form needs both in memory, and an argument has at least two characters.
	published = form{faas.MaxRequestSize, func(body int64) int64 { return body + body/2 }}
	// The body is the arguments. They are copied on their way to the process.
	raw = form{func(args int) int { return args }, func(body int64) int64 { return 2 * body }}
)

// readBody reads a request's body of n bytes (negative if unknown) within the platform's limits of
// size, time and memory. It adds to held the memory that it took.
func (p *Platform) readBody(w http.ResponseWriter, r *http.Request, buf []byte, of form, n int64, held *int64) ([]byte,
	error) {
	limit := int64(of.most(p.opts.limits.MaxPayloadMB << 20))
	if max(n, r.ContentLength) > limit {
		p.discardBody(w, r, limit)
		return buf, tooLargeBody(limit)
	}
	control := http.NewResponseController(w)
	if err := p.hold(held, of.takes(n)); err != nil {
		p.discardBody(w, r, limit)
		return buf, err
	}
	if n > int64(cap(buf)) {
		buf = make([]byte, 0, n+1) // one more, so that the end is seen without growing
	}
	for {
		if len(buf) == cap(buf) {
			grown := max(2*cap(buf), 4<<10)
			// both exist for a moment
			if err := p.hold(held, max(int64(cap(buf)+grown), of.takes(int64(grown)))); err != nil {
				p.discardBody(w, r, limit)
				return buf, err
			}
			buf = append(make([]byte, 0, grown), buf...)
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

// hold makes held n bytes of the budget, unless n is too small to count.
func (p *Platform) hold(held *int64, n int64) error {
	if n <= 2*worker.Uncounted || n <= *held {
		return nil
	}
	if most := p.buffered.RequestLimit(); n > most {
		return notRunError(faas.ErrTooLarge, "read request",
			"the request takes %d bytes of memory, and all large requests together may take %d", n, most)
	}
	if !p.buffered.TakeForRequest(n - *held) {
		e := notRunError(faas.ErrThrottled, "read request",
			"the requests and answers under way take %d MiB of memory, the limit of this platform is %d MiB",
			p.buffered.Used()>>20, p.buffered.Limit()>>20)
		e.RetryAfter = time.Second
		return e
	}
	*held = n
	return nil
}

func tooLargeBody(limit int64) error {
	return notRunError(faas.ErrTooLarge, "read request", "the body is larger than %d bytes, the limit", limit)
}

// discardBody reads a part of a refused body, so that the client can read the answer, and makes the
// server close the connection.
func (p *Platform) discardBody(w http.ResponseWriter, r *http.Request, most int64) {
	w.Header().Set("Connection", "close")
	if r.Header.Get("Expect") != "" { // it has not been asked to send
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(min(p.opts.limits.RequestTimeout, 10*time.Second)))
	_, _ = io.CopyN(io.Discard, r.Body, most+16<<20)
}
