package custom

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// opInvoke is the Op of the errors of invocations.
const opInvoke = "invoke"

// maxAnswer bounds an answer that carries no job output, in bytes.
const maxAnswer = 1 << 20

// request is one HTTP request, which may be sent several times.
type request struct {
	op     string
	job    int64
	method string
	url    string
	header http.Header                   // besides the executor's own
	body   func() (io.ReadCloser, error) // nil: none
	size   int64                         // of the body
	limit  int64                         // of the answer's body; 0: maxAnswer
	buffer []byte                        // the answer's body is appended to it
	single bool                          // it is not repeated: whoever sends it does that
}

// answer is a complete HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) ok() bool { return a.status >= 200 && a.status < 300 }

// missing reports whether the platform lacks what the request asked for.
func (a *answer) missing() bool {
	return a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed ||
		a.status == http.StatusNotImplemented
}

// newTransport returns a transport for one platform. It speaks HTTP/1.1, because Go's HTTP/2 client
// may repeat a request after a server reset its stream, and an invocation must not be repeated. It
// keeps enough connections for many concurrent invocations.
func newTransport(config *tls.Config) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.ForceAttemptHTTP2, t.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	t.TLSClientConfig = config
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 512
	t.DisableCompression = true
	return t
}

// checkRedirect follows a redirect only if that cannot leak or repeat anything: a read, on the same
// host, over no worse a scheme. Other redirects are answers, which the caller turns into an error.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	safe := (first.Method == http.MethodGet || first.Method == http.MethodHead) && next.URL.Host == first.URL.Host &&
		(next.URL.Scheme == first.URL.Scheme || next.URL.Scheme == "https") && len(via) < 5
	if !safe {
		return http.ErrUseLastResponse
	}
	return nil
}

// send sends the request once. The error is always an *faas.Error.
func (e *Executor) send(ctx context.Context, r request) (*answer, error) {
	return e.sendWithin(ctx, ctx, r)
}

// sendWithin is send for a request that ends with lasting, which may outlast the caller's ctx.
func (e *Executor) sendWithin(ctx, lasting context.Context, r request) (*answer, error) {
	req, err := e.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := e.http.Do(req.WithContext(lasting))
	if err != nil {
		return nil, e.transportError(ctx, r, err)
	}
	defer resp.Body.Close()
	limit := r.limit
	if limit == 0 {
		limit = maxAnswer
	}
	body, err := httputil.ReadAll(r.buffer, io.LimitReader(resp.Body, limit+1), min(resp.ContentLength, limit))
	switch {
	case err != nil:
		return nil, e.transportError(ctx, r, fmt.Errorf("read the answer: %w", err))
	case int64(len(body)) > limit:
		return nil, e.errorf(faas.ErrTooLarge, r, "the answer is larger than %d bytes", limit)
	}
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

func (e *Executor) newRequest(ctx context.Context, r request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, nil)
	if err != nil {
		return nil, e.errorf(faas.ErrInternal, r, "the URL of the platform is not usable")
	}
	for name, values := range e.set.header {
		for _, value := range values {
			req.Header[name] = append(req.Header[name], value.Reveal())
		}
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if e.tokens != nil {
		token, err := e.tokens.get(ctx)
		if err != nil {
			return nil, e.tokenError(ctx, r, err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if r.body != nil {
		if req.Body, err = r.body(); err != nil {
			return nil, e.errorf(faas.ErrInternal, r, "%w", err)
		}
		req.ContentLength, req.GetBody = r.size, r.body
	}
	return req, nil
}

// sendSafe sends a request that is safe to repeat, and repeats it while the platform cannot be
// reached or is temporarily unavailable. It does not wait for throttling to end: the engine knows
// how many others are waiting.
func (e *Executor) sendSafe(ctx context.Context, r request) (*answer, error) {
	return e.repeat(ctx, r, func() (*answer, error) { return e.send(ctx, r) })
}

// repeat calls send until that is of no more use.
func (e *Executor) repeat(ctx context.Context, r request, send func() (*answer, error)) (*answer, error) {
	for p := newPatience(); ; {
		a, err := send()
		failed := e.failure(r, a, err)
		if failed == nil || r.single {
			return a, err
		}
		wait, more := p.next(failed)
		if !more {
			return a, err
		}
		if !httputil.Sleep(ctx, wait) {
			return nil, e.errorf(faas.ErrTimeout, r, "%w; gave up waiting to try again: %w", reason(failed), context.Cause(ctx))
		}
	}
}

// failure returns the reason to send a request again: no answer, or an unavailable platform. It
// returns nil for every other outcome.
func (e *Executor) failure(r request, a *answer, err error) *faas.Error {
	var failed *faas.Error
	switch {
	case err != nil && isTransient(err):
		errors.As(err, &failed)
	case err == nil && isUnavailable(a):
		failed = e.statusError(r, a)
	}
	return failed
}

func isUnavailable(a *answer) bool {
	return a.status == http.StatusServiceUnavailable || a.status == http.StatusRequestTimeout || a.lost()
}

// lost reports whether the answer comes not from the platform but from a proxy that does not know
// what became of the request.
func (a *answer) lost() bool {
	return a.status == http.StatusBadGateway || a.status == http.StatusGatewayTimeout
}

// isTransient reports whether a failed request may succeed if it is repeated.
func isTransient(err error) bool { return kit.RefusalOf(err).Class == kit.Outage }

// errorf returns an error about a request.
func (e *Executor) errorf(code faas.Code, r request, format string, args ...any) *faas.Error {
	return &faas.Error{Op: r.op, Provider: faas.Custom, JobID: r.job, Code: code, Err: fmt.Errorf(format, args...)}
}

// reason returns an error of a request as the cause of another error of the same request, without
// repeating the request.
func reason(err error) error {
	if e, ok := err.(*faas.Error); ok && e.Err != nil {
		return because{e}
	}
	return err
}

type because struct{ err *faas.Error }

func (b because) Error() string { return b.err.Err.Error() }
func (b because) Unwrap() error { return b.err }

// without returns err if it shows no secret, and otherwise an error with the redacted text, because
// no cause that contains a secret may be reachable.
func (e *Executor) without(err error) error {
	if text := e.clean.Clean(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// transportError classifies the error of a request that got no complete answer.
func (e *Executor) transportError(ctx context.Context, r request, err error) *faas.Error {
	means, known := kit.OfError(ctx, err)
	var wrapped *url.Error // it prints the whole URL
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var timeout net.Error
	switch {
	case !known:
		means = kit.Refusal{Class: kit.Outage, Code: faas.ErrUnavailable}
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		err = fmt.Errorf("%w (%w)", err, ctx.Err())
	case means.Class == kit.Outage && errors.As(err, &timeout) && timeout.Timeout():
		means.Code = r.late()
	}
	return r.fail(means, fmt.Errorf("%s %s: %w", r.method, faas.RedactURL(r.url), e.without(err)))
}

// fail returns the error of a refused request.
func (r request) fail(means kit.Refusal, cause error) *faas.Error {
	return kit.Fail(r.op, faas.Custom, r.job, means, cause)
}

// late returns the code of a request that timed out although its caller's time was not over. The
// time of an invocation may be the function's; any other request is sent again.
func (r request) late() faas.Code {
	if r.op == opInvoke {
		return faas.ErrTimeout
	}
	return faas.ErrUnavailable
}

// statusError is the cause of an error that reports an answer's status.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// statusOf returns the status of the answer that an error reports, or 0.
func statusOf(err error) int {
	var e *statusError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

// rules say what a platform's answers mean beyond their status.
var rules = kit.Rules{
	{Code: []string{"TIMEOUT"}, Means: kit.Refusal{Code: faas.ErrUnavailable}},
}

// statusError turns an unsuccessful answer into an error.
func (e *Executor) statusError(r request, a *answer) *faas.Error {
	p := decodeProblem(a.body)
	code := strings.ToUpper(p.Code)
	means := rules.Of(kit.Answer{Status: a.status, Code: code, RetryAfter: httputil.RetryAfter(a.header, time.Now())})
	if a.status == http.StatusRequestTimeout || a.status == http.StatusGatewayTimeout || code == "TIMEOUT" {
		means.Code = r.late()
	}
	message := e.clean.Line(p.text(), maxMessage)
	if message == "" {
		message = e.clean.Excerpt(a.body)
	}
	if location := a.header.Get("Location"); location != "" && a.status/100 == 3 {
		message = "it redirects to " + e.clean.Line(faas.RedactURL(location), maxMessage) +
			", and credentials and changes are not sent elsewhere: set the endpoint to where the platform really is"
	}
	if a.status == http.StatusUnauthorized && e.tokens != nil {
		e.tokens.forget()
	}
	return r.fail(means, &statusError{a.status, fmt.Sprintf("%s %s: status %d: %s", r.method, faas.RedactURL(r.url),
		a.status, message)})
}
