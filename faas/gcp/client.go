//go:build !faas_only || faas_gcp

package gcp

import (
	"bytes"
	"context"
	"crypto/tls"
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
	// within bounds one try, the fetch of a token included; 0: only the context does.
	within time.Duration
}

// answer is an HTTP answer that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) ok() bool { return a.status >= 200 && a.status < 300 }

// send sends the request once. The error is always an *faas.Error.
func (e *Executor) send(ctx context.Context, r request) (*answer, error) {
	if r.within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.within)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, nil)
	if err != nil {
		return nil, e.errorf(faas.ErrInternal, r, "a URL is not usable")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "blueprint-serverless")
	if r.bearer != nil {
		token, err := r.bearer(ctx)
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

// retries is how often a request that can be repeated is sent again, and firstWait how long it waits before; each wait is twice the one before.
const (
	retries   = 3
	firstWait = 100 * time.Millisecond
)

// maxCall is how long an API may take to answer a call, so that a dead connection does not hold up a deployment that has no deadline.
const maxCall = 2 * time.Minute

// call calls an API: in is sent as JSON unless it is nil, and the answer is read into out unless that is nil. Reads are repeated where the API cannot be
// reached or is unavailable for the moment; so are changes where safe says that repeating them does no harm. Throttling is left to the engine, which
// knows how many others are waiting.
func (e *Executor) call(ctx context.Context, r request, safe bool, in, out any) error {
	r.within = maxCall
	if e.access != nil {
		r.bearer = e.access.get
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
	a, err := e.sendSafe(ctx, r, safe || r.method == http.MethodGet)
	if err != nil {
		return err
	}
	if !a.ok() {
		return e.statusError(r, a)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return e.errorf(faas.ErrUnavailable, r, "%s %s: the answer is not in the API's shape: %s", r.method, faas.RedactURL(r.url), foreign.Excerpt(a.body))
	}
	return nil
}

// sendSafe sends a request, again where it is safe to repeat and may succeed the next time.
func (e *Executor) sendSafe(ctx context.Context, r request, safe bool) (*answer, error) {
	wait := firstWait
	for i := 0; ; i++ {
		a, err := e.send(ctx, r)
		again := err != nil && isTransient(err) || err == nil && (a.status == http.StatusBadGateway || a.status == http.StatusServiceUnavailable || a.status == http.StatusGatewayTimeout)
		if !again || !safe || i == retries || !transfer.Sleep(ctx, wait) {
			return a, err
		}
		wait *= 2
	}
}

// isTransient reports whether a request that got no answer may get one the next time.
func isTransient(err error) bool {
	var verification *tls.CertificateVerificationError
	return faas.CodeOf(err) == faas.ErrUnavailable && !errors.As(err, &verification)
}

// errorf returns an error about a request.
func (e *Executor) errorf(code faas.Code, r request, format string, args ...any) *faas.Error {
	return &faas.Error{Op: r.op, Provider: faas.GCPFunctions, JobID: r.job, Code: code, Err: fmt.Errorf(format, args...)}
}

// transportError classifies the error of a request that got no whole answer.
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
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		code = faas.ErrTimeout
	}
	return e.errorf(code, r, "%s %s: %w", r.method, faas.RedactURL(r.url), err)
}
