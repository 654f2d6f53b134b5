//go:build !faas_only || faas_gcp

package gcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// maxAnswer bounds what is read of an answer that carries no job output, in bytes: a list of a thousand functions fits.
const maxAnswer = 64 << 20

// request is one HTTP request, which may be sent several times.
type request struct {
	op     string
	job    int64
	method string
	url    string
	header http.Header
	body   func() (io.ReadCloser, error) // nil: none
	size   int64                         // of the body
	limit  int64                         // of the answer's body; 0: maxAnswer
	buffer []byte                        // the answer's body is appended to it
	bearer func(context.Context) (string, error)
	// forget drops the token that bearer gave last; nil: it cannot be replaced.
	forget func()
	// within bounds one try, the fetch of a token included; 0: only the context does.
	within time.Duration
	// hide hides the values of the environment, which an answer may repeat; nil: there are none.
	hide func(string) string
}

// clean takes the values of the environment out of what others wrote. It has to see a text before
// it is cut: the beginning of a value would stay.
func (r request) clean(text string) string {
	if r.hide == nil {
		return text
	}
	return r.hide(text)
}

// hiding returns what takes the values out of a text, in whatever encoding they were sent.
func hiding(values []string) func(string) string { return foreign.NewCleaner(values...).Clean }

// answer is an HTTP answer that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) ok() bool { return a.status >= 200 && a.status < 300 }

// send sends the request once. The error is always an *faas.Error.
func (e *Executor) send(ctx context.Context, r request) (*answer, error) {
	try := ctx
	if r.within > 0 {
		var cancel context.CancelFunc
		try, cancel = context.WithTimeout(ctx, r.within)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(try, r.method, r.url, nil)
	if err != nil {
		return nil, e.errorf(faas.ErrInternal, r, "a URL is not usable")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "blueprint-serverless")
	if r.bearer != nil {
		token, err := r.bearer(try)
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

// retries is how often a request that can be repeated is sent again, and firstWait how long it waits
// before; each wait is twice the one before.
const (
	retries   = 6
	firstWait = 100 * time.Millisecond
)

// maxAsked bounds the delay that Google asks for with Retry-After.
const maxAsked = 30 * time.Second

// maxCall is how long an API may take to answer a call, so that a dead connection does not hold up a deployment that has no deadline.
const maxCall = time.Minute

// call calls an API: in is sent as JSON unless it is nil, and the answer is read into out unless that is nil. Reads are repeated where the API cannot be
// reached or is unavailable for the moment; so are changes where safe says that repeating them does no harm. Throttling is left to the engine, which
// knows how many others are waiting. An API that was enabled a moment ago is waited for.
func (e *Executor) call(ctx context.Context, r request, safe bool, in, out any) error {
	r.within = maxCall
	if e.access != nil {
		r.bearer, r.forget = e.access.get, e.access.forget
	}
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return e.errorf(faas.ErrInternal, r, "%w", err)
		}
		r.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
		r.size = int64(len(text))
		r.header = http.Header{"Content-Type": {"application/json"}}
	}
	var a *answer
	for began, wait := time.Now(), firstSettle; ; wait = min(wait*2, maxSettle) {
		var err error
		if a, err = e.sendSafe(ctx, r, safe || r.method == http.MethodGet); err != nil {
			return err
		}
		if a.ok() {
			break
		}
		failed := e.statusError(r, a)
		if !e.enabledLately(ctx, r, failed) || time.Since(began) > settleTime {
			return failed
		}
		e.log.Warn("an API was enabled a moment ago, and is waited for", "error", failed)
		if !transfer.Sleep(ctx, wait) {
			return e.errorf(faas.ErrTimeout, r, "%w, at the end of: %w", context.Cause(ctx), failed)
		}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		text := r.clean(string(a.body))
		return e.errorf(faas.ErrUnavailable, r, "%s %s: %w: %s", r.method, faas.RedactURL(r.url), errShape, foreign.Excerpt([]byte(text)))
	}
	return nil
}

var errShape = errors.New("the answer is not in the API's shape")

// sendSafe sends a request, again where it is safe to repeat and may succeed the next time. A token that is refused is replaced once: a request that
// was not authorized did nothing.
func (e *Executor) sendSafe(ctx context.Context, r request, safe bool) (*answer, error) {
	refreshed := false
	for i, wait := 0, firstWait; ; i, wait = i+1, wait*2 {
		a, err := e.send(ctx, r)
		if err == nil && a.status == http.StatusUnauthorized && r.forget != nil && !refreshed && ctx.Err() == nil {
			r.forget()
			refreshed = true
			a, err = e.send(ctx, r)
		}
		again := err != nil && isTransient(err)
		pause := wait
		if err == nil && passes(a.status) {
			again, pause = true, max(wait, min(transfer.RetryAfter(a.header, time.Now()), maxAsked))
		}
		if !again || !safe || i == retries || !transfer.Sleep(ctx, pause) {
			return a, err
		}
	}
}

// passes reports whether a status tells of something that passes by itself within seconds.
func passes(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// isTransient reports whether a request that got no answer may get one the next time.
func isTransient(err error) bool {
	return faas.CodeOf(err) == faas.ErrUnavailable && !isCertificate(err)
}

// errorf returns an error about a request.
func (e *Executor) errorf(code faas.Code, r request, format string, args ...any) *faas.Error {
	return &faas.Error{Op: r.op, Provider: faas.GCPFunctions, JobID: r.job, Code: code, Err: fmt.Errorf(format, args...)}
}

// transportError classifies the error of a request that got no whole answer. A network that took too long is not the caller's deadline.
func (e *Executor) transportError(ctx context.Context, r request, err error) *faas.Error {
	var wrapped *url.Error // it prints the whole URL, which may be a signed one
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	code := faas.ErrUnavailable
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		code = faas.ErrTimeout
		if !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		err = &networkTimeout{err}
	}
	return e.errorf(code, r, "%s %s: %w", r.method, faas.RedactURL(r.url), err)
}

// networkTimeout is the error of a connection that took too long. That of package net passes for [context.DeadlineExceeded], which this does not: the
// caller's deadline has not passed.
type networkTimeout struct{ err error }

func (t *networkTimeout) Error() string {
	if errors.Is(t.err, context.DeadlineExceeded) {
		return "the network took too long to answer"
	}
	return t.err.Error()
}

func (t *networkTimeout) Timeout() bool   { return true }
func (t *networkTimeout) Temporary() bool { return true }

// isNetworkTimeout reports whether a request ended because the network took too long.
func isNetworkTimeout(err error) bool {
	var timeout *networkTimeout
	return errors.As(err, &timeout)
}

// plainHTTP is a transport whose answers end. One that switches to another protocol has a body that no context ends.
type plainHTTP struct{ http.RoundTripper }

var errSwitched = errors.New("the server switched to another protocol")

func (t plainHTTP) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close()
		return nil, errSwitched
	}
	return resp, err
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (t plainHTTP) CloseIdleConnections() {
	if c, ok := t.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
