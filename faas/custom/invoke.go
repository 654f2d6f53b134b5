package custom

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// maxErrorText bounds what an answer may contain besides its result, in bytes.
const maxErrorText = 1 << 20

// Invoke runs the job. The limit in faas.ProviderLimits counts the bytes of args and of the output,
// not those of the JSON around them. A platform's 413 is an ErrTooLarge as well.
//
// Once a platform has announced that it takes the bytes as they are (X-Blueprint-Features: raw),
// Invoke sends them so. Every other platform gets the protocol's JSON.
//
// In mode auto, a platform that does not know the function's address but answers at ENDPOINT/job/N
// counts as invoke-only. Invoke tries the second address only after the first one has answered that
// it does not exist.
func (e *Executor) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	start := time.Now()
	limit := payloads.Of(faas.Custom, 0, payloads.Raw)
	r := request{op: opInvoke, job: int64(jobID), method: http.MethodPost,
		limit: int64(faas.MaxResponseSize(limit.Job)) + maxErrorText}
	if err := limit.Check(payloads.Raw, jobID, args); err != nil {
		return nil, err
	}
	r.url = e.functionURL(kit.ProtocolNames.Of(e.set.service, jobID), "/invoke")
	if e.invokesByHand() {
		r.url = e.jobURL(jobID)
	}
	result, err := e.invoke(ctx, r, jobID, args)
	if err != nil && isMissing(err) && e.kind.Load() == kindUnknown && e.answersByHand(ctx, jobID) {
		e.kind.CompareAndSwap(kindUnknown, kindGuessed)
		r.url = e.jobURL(jobID)
		var again *faas.Error
		if result, again = e.invoke(ctx, r, jobID, args); again != nil && isMissing(again) {
			// Something answers HEAD everywhere. Return the first error.
			e.kind.CompareAndSwap(kindGuessed, kindUnknown)
		} else {
			err = again
		}
	}
	if err != nil {
		return nil, err
	}
	if err := limit.CheckOutput(jobID, result.Output); err != nil {
		return nil, err
	}
	result.Metrics.Total = time.Since(start)
	return result, nil
}

// isMissing reports whether an invocation failed because its address does not exist.
func isMissing(err *faas.Error) bool {
	return err.NotRun && (err.Code == faas.ErrNotFound || err.Code == faas.ErrUnsupported)
}

// answersByHand reports whether a function that was deployed by hand exists.
func (e *Executor) answersByHand(ctx context.Context, jobID uint32) bool {
	a, err := e.send(ctx, request{op: opInvoke, job: int64(jobID), method: http.MethodHead, url: e.jobURL(jobID)})
	return err == nil && answersHead(a)
}

// invoke sends one request once, and a second one, in the published form, only if the platform
// refused the first because of its form.
func (e *Executor) invoke(ctx context.Context, r request, jobID uint32, args []byte) (*faas.Result, *faas.Error) {
	if e.raw.Load() == rawTaken {
		body := payloads.NewBody(args)
		defer body.Release()
		r := r
		r.size, r.header = payloads.Length, payloads.CallHeaders(jobID, args)
		a, failed := e.post(ctx, r, body.Open)
		switch {
		case failed != nil:
			return nil, failed
		case !payloads.Refused(a.status):
			return e.result(r, jobID, a, func(resp *faas.Response) (err error) {
				if *resp, err = payloads.ParseAnswer(a.header, a.body); err != nil {
					e.raw.Store(rawRefused)
				}
				return err
			})
		}
		e.raw.Store(rawRefused)
	}
	body := newInvokeBody(jobID, args)
	defer body.release()
	r.size = int64(len(body.text))
	r.header = http.Header{"Content-Type": {"application/json"}}
	answer := buffers.Get().(*[]byte)
	r.buffer = (*answer)[:0]
	a, failed := e.post(ctx, r, body.reader)
	if failed != nil {
		return nil, failed
	}
	*answer = a.body
	defer putBuffer(answer)
	if payloads.Announced(a.header) {
		e.raw.CompareAndSwap(rawUnknown, rawTaken)
	}
	return e.result(r, jobID, a, func(resp *faas.Response) error { return faas.ParseResponse(a.body, resp) })
}

// post sends an invocation once.
func (e *Executor) post(ctx context.Context, r request, body func() io.ReadCloser) (*answer, *faas.Error) {
	var sent invokeTrace
	r.body = func() (io.ReadCloser, error) {
		if sent.http2.Load() { // its client would also repeat what the server may have begun
			return nil, errNotRepeated
		}
		return body(), nil
	}
	a, err := e.send(httptrace.WithClientTrace(ctx, sent.trace()), r)
	if err != nil {
		failed := err.(*faas.Error)
		failed.NotRun = failed.NotRun || !sent.connected.Load()
		return nil, failed
	}
	return a, nil
}

// result turns an answer into a result or an error. parse reads a successful answer.
func (e *Executor) result(r request, jobID uint32, a *answer, parse func(*faas.Response) error) (*faas.Result,
	*faas.Error) {
	if !a.ok() {
		return nil, e.invokeError(r, a)
	}
	var resp faas.Response
	if err := parse(&resp); err != nil {
		return nil, e.errorf(faas.ErrUnavailable, r,
			"%s %s: the job may have run, but the answer is not in the protocol's shape (%s): %s",
			r.method, faas.RedactURL(r.url), e.clean.Line(reason(err).Error(), maxMessage), e.clean.Excerpt(a.body))
	}
	if !resp.Success {
		return nil, e.invokeError(r, a)
	}
	if resp.JobID != jobID && (resp.Compact || resp.JobID != 0 || decodeProblem(a.body).JobID != nil) {
		return nil, e.errorf(faas.ErrUnavailable, r, "%s %s: the answer is of job %d", r.method, faas.RedactURL(r.url),
			resp.JobID)
	}
	e.kind.CompareAndSwap(kindUnknown, kindDeploys)
	if resp.Result == nil {
		resp.Result = []byte{}
	}
	return &faas.Result{Output: resp.Result, Metrics: faas.Metrics{
		Execution: milliseconds(resp.ExecutionMS), MemoryMB: resp.MemoryUsedMB,
	}}, nil
}

// refusals are the statuses that say that the server refused the request and ran nothing.
var refusals = []int{
	http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
	http.StatusRequestEntityTooLarge,
	http.StatusUnsupportedMediaType, http.StatusTooManyRequests, http.StatusNotImplemented,
}

// failureCodes maps the codes in an answer that say more than its status. Platforms answer 500 for
// all of them.
var failureCodes = map[string]faas.Code{
	"TIMEOUT": faas.ErrTimeout, "TOO_LARGE": faas.ErrTooLarge, "UNAVAILABLE": faas.ErrUnavailable,
	"THROTTLED": faas.ErrThrottled,
}

// invokeError distinguishes a failed function from a failed platform.
func (e *Executor) invokeError(r request, a *answer) *faas.Error {
	p := decodeProblem(a.body)
	err := e.statusError(r, a)
	if p.Success != nil {
		e.kind.CompareAndSwap(kindUnknown, kindDeploys) // it speaks the protocol
	}
	err.NotRun = slices.Contains(refusals, a.status) || p.notRun()
	saysSo := p.Success != nil && !*p.Success &&
		(a.status == http.StatusInternalServerError || a.status == http.StatusBadGateway ||
			a.status == http.StatusUnprocessableEntity)
	if !saysSo && !a.ok() {
		return err
	}
	if code, ok := failureCodes[strings.ToUpper(p.Code)]; ok {
		err.Code = code
		return err
	}
	failed := e.errorf(faas.ErrFunctionFailed, r, "%w", e.functionError(p))
	failed.NotRun = p.notRun()
	return failed
}

// functionError returns what a platform reports of a failed function. Details are an extension of
// the protocol.
func (e *Executor) functionError(p problem) *faas.FunctionError {
	failed := &faas.FunctionError{
		Type: p.detail("type"), Message: p.detail("message"), ExitCode: p.number("exit_code"),
		LogTail: e.clean.Tail(p.detail("log_tail"), maxLog),
	}
	if failed.Type == "" && !strings.EqualFold(p.Code, "FUNCTION_FAILED") {
		failed.Type = p.Code
	}
	if failed.Message == "" {
		failed.Message = p.text()
	}
	failed.Type, failed.Message = e.clean.Line(failed.Type, 40), e.clean.Line(failed.Message, maxMessage)
	return failed
}

// invokeTrace records whether an invocation had a connection, without which it cannot have reached
// the platform.
type invokeTrace struct{ connected, http2 atomic.Bool }

var errNotRepeated = errors.New("the connection was lost, and an invocation is not repeated")

func (t *invokeTrace) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if c, ok := info.Conn.(*tls.Conn); ok && c.ConnectionState().NegotiatedProtocol == "h2" {
			t.http2.Store(true)
		}
		t.connected.Store(true)
	}}
}

// buffers holds buffers for the bodies of invocations and their answers.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooled is the largest buffer that is kept, in bytes.
const maxPooled = 1 << 20

func putBuffer(buffer *[]byte) {
	if cap(*buffer) <= maxPooled {
		buffers.Put(buffer)
	}
}

// invokeBody is the JSON of an invocation. Its buffer is reused once the call and every reader that
// the transport got are done with it: a transport may read on after it has returned an answer, and
// may ask for a second reader if it found a connection dead before it wrote anything.
type invokeBody struct {
	text   []byte
	buffer *[]byte
	refs   atomic.Int32
}

func newInvokeBody(jobID uint32, args []byte) *invokeBody {
	buffer := buffers.Get().(*[]byte)
	b := &invokeBody{text: faas.AppendRequest((*buffer)[:0], jobID, args), buffer: buffer}
	b.refs.Store(1)
	return b
}

func (b *invokeBody) release() {
	if b.refs.Add(-1) == 0 {
		*b.buffer = b.text
		putBuffer(b.buffer)
	}
}

func (b *invokeBody) reader() io.ReadCloser {
	b.refs.Add(1)
	r := &invokeReader{body: b}
	r.text.Reset(b.text)
	return r
}

// invokeReader reads an invokeBody until it is closed.
type invokeReader struct {
	mu     sync.Mutex
	text   bytes.Reader
	body   *invokeBody
	closed bool
}

func (r *invokeReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return r.text.Read(p)
}

func (r *invokeReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		r.body.release()
	}
	return nil
}
