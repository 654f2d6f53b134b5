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
	"os"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// maxAnswer bounds what is read of an answer that carries no job output, in bytes.
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
}

// answer is an HTTP answer that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) ok() bool { return a.status >= 200 && a.status < 300 }

// missing reports whether the platform does not offer what was asked for.
func (a *answer) missing() bool {
	return a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotImplemented
}

// newTransport returns a transport for one platform. It speaks HTTP/1.1: Go's HTTP/2 client may send a request again after a server reset its
// stream, and an invocation must not be repeated. It keeps enough connections for many concurrent invocations.
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

// checkRedirect follows a redirect only where nothing can be leaked or repeated by it: a read, on the same host, over no worse a scheme. Other redirects
// are answers, which the caller turns into an error.
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
	req, err := e.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, e.transportError(ctx, r, err)
	}
	defer resp.Body.Close()
	limit := r.limit
	if limit == 0 {
		limit = maxAnswer
	}
	body, err := transfer.ReadAll(r.buffer, io.LimitReader(resp.Body, limit+1), min(resp.ContentLength, limit))
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
	for _, header := range []http.Header{e.set.header, r.header} {
		for name, values := range header {
			req.Header[name] = values
		}
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

// retries is how often a request that can be repeated is sent again, and firstWait how long it waits before; each wait is twice the one before.
const (
	retries   = 3
	firstWait = 100 * time.Millisecond
)

// sendSafe sends a request that is safe to repeat, again where the platform could not be reached or was unavailable for the moment. Throttling is not
// retried here: the engine knows how many others are waiting.
func (e *Executor) sendSafe(ctx context.Context, r request) (*answer, error) {
	wait := firstWait
	for i := 0; ; i++ {
		a, err := e.send(ctx, r)
		again := err != nil && isTransient(err) || err == nil && isUnavailable(a)
		if !again || i == retries || !transfer.Sleep(ctx, wait) {
			return a, err
		}
		wait *= 2
	}
}

func isUnavailable(a *answer) bool {
	return a.status == http.StatusBadGateway || a.status == http.StatusServiceUnavailable || a.status == http.StatusGatewayTimeout
}

// isTransient reports whether a request that got no answer may get one the next time.
func isTransient(err error) bool {
	var verification *tls.CertificateVerificationError
	return faas.CodeOf(err) == faas.ErrUnavailable && !errors.As(err, &verification)
}

// errorf returns an error about a request.
func (e *Executor) errorf(code faas.Code, r request, format string, args ...any) *faas.Error {
	return &faas.Error{Op: r.op, Provider: faas.Custom, JobID: r.job, Code: code, Err: fmt.Errorf(format, args...)}
}

// without returns err as it is where redact finds nothing in it, else an error of the text that is left: a cause that holds a secret must not be reachable.
func without(redact func(string) string, err error) error {
	if text := redact(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// transportError classifies the error of a request that got no whole answer.
func (e *Executor) transportError(ctx context.Context, r request, err error) *faas.Error {
	var wrapped *url.Error // it prints the whole URL
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	code := faas.ErrUnavailable
	var alert *net.OpError
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		code = faas.ErrTimeout
		if !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		code = faas.ErrTimeout
	case errors.As(err, &alert) && alert.Op == "remote error": // a TLS alert: the platform refuses us, for want of a client certificate it trusts
		code = faas.ErrPermissionDenied
	}
	return e.errorf(code, r, "%s %s: %w", r.method, faas.RedactURL(r.url), without(e.redact, err))
}

// statusError turns an answer that is not what was hoped for into an error.
func (e *Executor) statusError(r request, a *answer) *faas.Error {
	code := faas.ErrUnavailable
	switch a.status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		code = faas.ErrInvalidArgument
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		code = faas.ErrPermissionDenied
	case http.StatusNotFound, http.StatusGone:
		code = faas.ErrNotFound
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		code = faas.ErrTimeout
	case http.StatusConflict:
		code = faas.ErrConflict
	case http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge:
		code = faas.ErrTooLarge
	case http.StatusTooManyRequests:
		code = faas.ErrThrottled
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusUnsupportedMediaType:
		code = faas.ErrUnsupported
	}
	p := decodeProblem(a.body)
	if strings.EqualFold(p.Code, "TIMEOUT") {
		code = faas.ErrTimeout
	}
	message := p.text()
	if message == "" {
		message = foreign.Excerpt(a.body)
	}
	if location := a.header.Get("Location"); location != "" && a.status/100 == 3 {
		code = faas.ErrInvalidArgument
		message = "it redirects to " + faas.RedactURL(location) + ", and credentials and changes are not sent elsewhere: set the endpoint to where the platform really is"
	}
	err := e.errorf(code, r, "%s %s: status %d: %s", r.method, faas.RedactURL(r.url), a.status, e.redact(foreign.Line(message, maxMessage)))
	err.RetryAfter = transfer.RetryAfter(a.header, time.Now())
	if a.status == http.StatusUnauthorized && e.tokens != nil {
		e.tokens.forget()
	}
	return err
}

// redact replaces the executor's credentials in a text that someone else wrote.
func (e *Executor) redact(text string) string { return e.secrets.Replace(text) }
