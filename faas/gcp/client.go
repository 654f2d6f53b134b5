//go:build !faas_only || faas_gcp

package gcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	functions "cloud.google.com/go/functions/apiv2"
	artifactregistry "google.golang.org/api/artifactregistry/v1"
	cloudbuild "google.golang.org/api/cloudbuild/v1"
	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v1"
	logging "google.golang.org/api/logging/v2"
	"google.golang.org/api/option"
	run "google.golang.org/api/run/v2"
	serviceusage "google.golang.org/api/serviceusage/v1"
	storage "google.golang.org/api/storage/v1"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// clients are Google's clients. All send through one HTTP client, see [wire].
type clients struct {
	functions *functions.FunctionClient
	run       *run.ProjectsLocationsService
	storage   *storage.Service
	logging   *logging.Service
	projects  *cloudresourcemanager.ProjectsService
	usage     *serviceusage.ServicesService
	build     *cloudbuild.ProjectsLocationsService
	artifacts *artifactregistry.ProjectsLocationsRepositoriesPackagesService
}

// newClients makes the clients of all APIs. It sends nothing.
func newClients(ctx context.Context, set *settings, over *http.Client) (clients, error) {
	var c clients
	var failed error
	keep := func(err error) bool {
		failed = errors.Join(failed, err)
		return err == nil
	}
	var err error
	c.functions, err = functions.NewFunctionRESTClient(ctx, at(strings.TrimSuffix(set.functionsURL, "/"), over)...)
	keep(err)
	if s, err := run.NewService(ctx, at(set.runURL, over)...); keep(err) {
		c.run = s.Projects.Locations
	}
	c.storage, err = storage.NewService(ctx, at(set.storageURL+"storage/v1/", over)...)
	keep(err)
	c.logging, err = logging.NewService(ctx, at(set.loggingURL, over)...)
	keep(err)
	if s, err := cloudresourcemanager.NewService(ctx, at(set.projectsURL, over)...); keep(err) {
		c.projects = s.Projects
	}
	if s, err := serviceusage.NewService(ctx, at(set.usageURL, over)...); keep(err) {
		c.usage = s.Services
	}
	if s, err := cloudbuild.NewService(ctx, at(set.buildURL, over)...); keep(err) {
		c.build = s.Projects.Locations
	}
	if s, err := artifactregistry.NewService(ctx, at(set.artifactsURL, over)...); keep(err) {
		c.artifacts = s.Projects.Locations.Repositories.Packages
	}
	return c, failed
}

// at returns the options of a client that sends to an endpoint through an HTTP client.
func at(endpoint string, over *http.Client) []option.ClientOption {
	return []option.ClientOption{option.WithHTTPClient(over), option.WithEndpoint(endpoint)}
}

// maxAnswer limits what is read of an answer without job output, in bytes. A list of a thousand
// functions fits.
const maxAnswer = 64 << 20

// request is one call of an API, which may take several requests, or one HTTP request of our own.
type request struct {
	op  string
	job int64
	// within limits one try, including the fetch of a token. If it is 0, the context alone does, and
	// for an API maxCall.
	within time.Duration
	// hide, if not nil, hides the values of the environment, which an answer may repeat.
	hide func(string) string

	// Set for a request of our own, and for errors.
	method, url string
	header      http.Header
	body        func() (io.ReadCloser, error) // nil: none
	size        int64                         // of the body
	limit       int64                         // of the answer's body; 0: maxAnswer
	buffer      []byte                        // the answer's body is appended to it
	bearer      func(context.Context) (string, error)
}

// clean removes the values of the environment from what others wrote. It must see a text before the
// text is cut, because the beginning of a value would remain.
func (r request) clean(text string) string {
	if r.hide == nil {
		return text
	}
	return r.hide(text)
}

// hiding returns a function that removes the values from a text, in any encoding in which they may
// have been sent.
func hiding(values []string) func(string) string { return sanitize.NewCleaner(values...).Clean }

// answer is an HTTP answer that was read to its end.
type answer struct {
	status     int
	header     http.Header
	body       []byte
	sent, came time.Time
}

func (a *answer) ok() bool { return a.status >= 200 && a.status < 300 }

// exchange is what one of Google's clients sends and receives on the wire. The client itself
// reveals neither the fields it does not know nor when an answer came.
type exchange struct {
	method, url string // empty: nothing was sent
	instead     []byte // sent in place of the client's body, unless nil
	answer
}

type exchangeKey struct{}

// wire is the transport of Google's clients. It records an exchange if the context asks for that,
// and limits what is read of an answer.
type wire struct{ next http.RoundTripper }

var errLarge = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)

const userAgent = "blueprint-serverless"

func (t wire) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		x = &exchange{}
	}
	x.method, x.url, x.answer = req.Method, req.URL.String(), answer{sent: time.Now()}
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", userAgent)
	if x.instead != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.instead)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(x.instead))
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := httputil.ReadAll(nil, io.LimitReader(resp.Body, maxAnswer+1), min(resp.ContentLength, maxAnswer))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case len(body) > maxAnswer:
		return nil, errLarge
	}
	x.status, x.header, x.body, x.came = resp.StatusCode, resp.Header, body, time.Now()
	whole := *resp
	whole.Body, whole.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return &whole, nil
}

// send sends a request of our own once. The error is always an *faas.Error.
func (e *Executor) send(ctx context.Context, r request) (*answer, error) {
	try := ctx
	if r.within > 0 {
		var cancel context.CancelFunc
		try, cancel = context.WithTimeout(ctx, r.within)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(try, r.method, r.url, nil)
	if err != nil {
		return nil, e.errorf(faas.ErrInternal, r, "invalid URL")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", userAgent)
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
	body, err := httputil.ReadAll(r.buffer, io.LimitReader(resp.Body, limit+1), min(resp.ContentLength, limit))
	switch {
	case err != nil:
		return nil, e.transportError(ctx, r, fmt.Errorf("read the answer: %w", err))
	case int64(len(body)) > limit:
		return nil, e.errorf(faas.ErrTooLarge, r, "the answer is larger than %d bytes", limit)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// retries is how often a request that is safe to repeat is sent again, and firstWait how long to
// wait before the first time. Each wait is twice the one before.
const (
	retries   = 6
	firstWait = 100 * time.Millisecond
)

// maxAsked limits the delay that Google asks for with Retry-After.
const maxAsked = 30 * time.Second

// maxCall is how long an API may take to answer, so that a dead connection does not block a
// deployment without a deadline.
const maxCall = time.Minute

// call calls an API through one of Google's clients: do makes one request with the context that it
// receives. If safe is true, call repeats the request when the API cannot be reached or is
// unavailable. It leaves throttling to the engine, which knows how many others are waiting. It
// waits for an API that was enabled a moment ago. It returns what came over the wire even beside an
// error.
func (e *Executor) call(ctx context.Context, r request, safe bool, do func(context.Context) error) (*exchange, error) {
	return e.callWith(ctx, r, safe, nil, do)
}

// callWith is call with a body in place of the client's own. The client builds its body from a
// typed message, which lacks what Google has added to a resource since the client was generated.
func (e *Executor) callWith(ctx context.Context, r request, safe bool, body []byte,
	do func(context.Context) error) (*exchange, error) {
	if r.within == 0 {
		r.within = maxCall
	}
	var x *exchange
	once := func() error {
		try, cancel := context.WithTimeout(ctx, r.within)
		defer cancel()
		x = &exchange{instead: body}
		err := do(context.WithValue(try, exchangeKey{}, x))
		if err != nil {
			err = e.failure(ctx, r, x, err)
		}
		return err
	}
	for began, wait := time.Now(), firstSettle; ; wait = min(wait*2, maxSettle) {
		err := e.repeat(ctx, safe, once)
		if err == nil || !e.enabledLately(ctx, r, err) || time.Since(began) > settleTime {
			return x, err
		}
		e.log.Warn("waiting for an API that was enabled a moment ago", "error", err)
		if !httputil.Sleep(ctx, wait) {
			return x, e.errorf(faas.ErrTimeout, r, "%w, at the end of: %w", context.Cause(ctx), err)
		}
	}
}

// repeat makes a request, and makes it again if that is safe and may succeed. It replaces a refused
// token once, because a request that was not authorized did nothing.
func (e *Executor) repeat(ctx context.Context, safe bool, once func() error) error {
	refreshed := false
	for i, wait := 0, firstWait; ; i, wait = i+1, wait*2 {
		err := once()
		if isUnauthorized(err) && e.access != nil && !refreshed && ctx.Err() == nil {
			e.access.forget()
			refreshed = true
			err = once()
		}
		means := judge(err)
		again := err != nil && safe && means.Class == kit.Outage && !errors.Is(err, errShape) && i < retries
		if !again || !httputil.Sleep(ctx, max(wait, means.RetryAfter)) {
			return err
		}
	}
}

var errShape = errors.New("the answer is not in the API's shape")

// failure makes an error from what one of Google's clients returned.
func (e *Executor) failure(ctx context.Context, r request, x *exchange, err error) *faas.Error {
	r.method, r.url = x.method, x.url
	switch {
	case isTokenError(err):
		return e.tokenError(ctx, r, err)
	case x.status == 0 && (x.method != "" || ctx.Err() != nil):
		return e.transportError(ctx, r, err)
	case x.method == "":
		return e.errorf(faas.ErrInvalidArgument, r, "%w", err) // the client did not send it
	case !x.ok():
		return e.statusError(r, &x.answer)
	}
	text := r.clean(string(x.body))
	said := sanitize.Excerpt([]byte(text))
	return e.errorf(faas.ErrUnavailable, r, "%s %s: %w: %s", r.method, faas.RedactURL(r.url), errShape, said)
}

// errorf returns an error about a request.
func (e *Executor) errorf(code faas.Code, r request, format string, args ...any) *faas.Error {
	return &faas.Error{Op: r.op, Provider: faas.GCPFunctions, JobID: r.job, Code: code, Err: fmt.Errorf(format, args...)}
}

// transportError classifies the error of a request that got no complete answer. A slow network is
// not the caller's deadline.
func (e *Executor) transportError(ctx context.Context, r request, err error) *faas.Error {
	var wrapped *url.Error // it prints the whole URL, which may be a signed one
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	means, known := kit.OfError(ctx, err)
	var timeout net.Error
	switch {
	case errors.Is(err, errLarge):
		means = kit.Refusal{Code: faas.ErrTooLarge}
	case !known:
		means = kit.Refusal{Class: kit.Outage, Code: faas.ErrUnavailable}
	case ctx.Err() != nil:
		if !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		err = &networkTimeout{err}
	}
	err = fmt.Errorf("%s %s: %w", r.method, faas.RedactURL(r.url), err)
	return kit.Fail(r.op, faas.GCPFunctions, r.job, means, err)
}

// networkTimeout is the error of a connection that took too long. Unlike the error of package net,
// it is not [context.DeadlineExceeded], because the caller's deadline has not passed.
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
