//go:build !faas_only || faas_gcp

package gcp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// maxErrorText is how much an answer may hold besides its result, in bytes.
const maxErrorText = 1 << 20

// maxBody is the largest request and response that Google carries, in bytes.
const maxBody = 32 << 20

// carries describes the payloads that Google carries.
var carries = payloads.Of(faas.GCPFunctions, maxBody, payloads.Raw)

// Invoke runs the job with one request to the function's own URL, which it looks up once. It calls
// a private function with an ID token for that URL.
//
// The limit of faas.ProviderLimits counts the bytes of args and of the output. If the function's
// labels say that it accepts the compact form, they are sent as they are. Other functions receive
// them as the JSON of the published form, of which Google carries 32 MiB.
func (e *Executor) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	start := time.Now()
	r := request{op: "invoke", job: int64(jobID)}
	if err := carries.Check(payloads.Raw, jobID, args); err != nil {
		return nil, err // which fits in no form
	}
	to, err := e.route(ctx, r, jobID)
	if err == nil && carries.Check(to.form, jobID, args) != nil { // it may take the other form by now
		e.routes.Delete(jobID)
		to, err = e.route(ctx, r, jobID)
	}
	if err == nil {
		err = carries.Check(to.form, jobID, args)
	}
	if err != nil {
		return nil, err
	}
	result, failed := e.invoke(ctx, r, to, jobID, args)
	if failed != nil {
		if failed.Code == faas.ErrNotFound || failed.Code == faas.ErrTooLarge {
			e.routes.Delete(jobID)
		}
		return nil, failed
	}
	if err := carries.CheckOutput(jobID, result.Output); err != nil {
		return nil, err
	}
	result.Metrics.Total = time.Since(start)
	return result, nil
}

// route returns where and how to invoke the job's function. Any error means that it was not
// invoked.
func (e *Executor) route(ctx context.Context, r request, jobID uint32) (*route, error) {
	if known, ok := e.routes.Load(jobID); ok {
		return known.(*route), nil
	}
	got, err := e.observe(ctx, r, kit.CloudRunNames.Of(e.set.service, jobID))
	if err == nil && got.url == "" {
		err = e.errorf(faas.ErrUnavailable, r, "function %s has no URL: %s", got.name, cmp.Or(got.reason, string(got.status)))
	}
	if err != nil {
		var failed *faas.Error
		if errors.As(err, &failed) {
			failed.NotRun = true
		}
		return nil, err
	}
	return routeTo(got), nil
}

// postJSON sends a JSON body to a function once.
func (e *Executor) postJSON(ctx context.Context, r request, to string, body []byte) (*answer, *faas.Error) {
	r.header, r.size = http.Header{"Content-Type": {"application/json"}}, int64(len(body))
	return e.post(ctx, r, to, func() io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) })
}

// post sends a request to a function once.
func (e *Executor) post(ctx context.Context, r request, to string, body func() io.ReadCloser) (*answer, *faas.Error) {
	var sent invokeTrace
	r.method, r.url = http.MethodPost, to
	if !e.set.public { // everybody needs no token, and not all credentials can get one
		r.bearer = e.idToken(to)
	}
	r.limit = maxBody + maxErrorText
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
		if !failed.NotRun && isNetworkTimeout(failed) {
			failed.Code = faas.ErrTimeout
		}
		return nil, failed
	}
	return a, nil
}

// invoke sends one request once. It sends a second one, in the published form, only if the first
// was refused because of its form.
func (e *Executor) invoke(ctx context.Context, r request, to *route, jobID uint32, args []byte) (*faas.Result,
	*faas.Error) {
	if to.form == payloads.Raw {
		body := payloads.NewBody(args)
		defer body.Release()
		raw := r
		raw.header, raw.size = payloads.CallHeaders(jobID, args), payloads.Length
		a, failed := e.post(ctx, raw, to.url, body.Open)
		switch {
		case failed != nil:
			return nil, failed
		case !payloads.Refused(a.status):
			return e.result(r, to, jobID, a, func(resp *faas.Response) (err error) {
				*resp, err = payloads.ParseAnswer(a.header, a.body)
				return err
			})
		}
		to = &route{to.url, payloads.Numbers}
		e.routes.Store(jobID, to)
		if err := carries.Check(to.form, jobID, args); err != nil {
			return nil, err.(*faas.Error)
		}
	}
	a, failed := e.postJSON(ctx, r, to.url, faas.AppendRequest(nil, jobID, args))
	if failed != nil {
		return nil, failed
	}
	return e.result(r, to, jobID, a, func(resp *faas.Response) error { return faas.ParseResponse(a.body, resp) })
}

// result makes the result or the error of an answer. parse reads an answer that reports success.
func (e *Executor) result(r request, to *route, jobID uint32, a *answer,
	parse func(*faas.Response) error) (*faas.Result, *faas.Error) {
	r.method, r.url = http.MethodPost, to.url
	if !a.ok() {
		failed := e.invokeError(r, a)
		if failed.Code == faas.ErrTooLarge && !failed.NotRun {
			failed = carries.Answer(to.form, jobID, failed.Err)
		}
		return nil, failed
	}
	var resp faas.Response
	if err := parse(&resp); err != nil {
		return nil, e.errorf(faas.ErrUnavailable, r,
			"POST %s: the job may have run, but the answer is not in the protocol's shape (%s): %s",
			faas.RedactURL(to.url), sanitize.Line(err.Error(), maxMessage), sanitize.Excerpt(a.body))
	}
	if !resp.Success {
		return nil, e.invokeError(r, a)
	}
	if resp.JobID != jobID && (resp.Compact || resp.JobID != 0) { // a plain binary may leave it out
		return nil, e.errorf(faas.ErrUnavailable, r, "POST %s: the answer is for job %d", faas.RedactURL(to.url), resp.JobID)
	}
	if resp.Result == nil {
		resp.Result = []byte{}
	}
	return &faas.Result{Output: resp.Result, Metrics: faas.Metrics{
		Execution: time.Duration(min(resp.ExecutionMS, 1e12) * float64(time.Millisecond)), MemoryMB: resp.MemoryUsedMB,
	}}, nil
}

// problem is how a job binary, or the shim around one, reports a failure.
type problem struct {
	Success *bool  `json:"success"`
	Error   any    `json:"error"`
	Code    string `json:"code"`
	Details struct {
		ExitCode int    `json:"exit_code"`
		LogTail  string `json:"log_tail"`
	} `json:"details"`
}

// Google's front end answers with these texts if an instance died during a request. It has no code
// for that.
var crashTexts = []string{"disconnect/reset before headers", "connection to the instance had an error",
	"response was either malformed", "response was malformed"}

// invokeError distinguishes a function that failed from a platform that did.
func (e *Executor) invokeError(r request, a *answer) *faas.Error {
	var p problem
	fromJob := json.Unmarshal(a.body, &p) == nil && (p.Success != nil || p.Code != "")
	message, _ := p.Error.(string)
	code, notRun, hint := faas.ErrUnavailable, false, ""
	switch {
	case fromJob && p.Success != nil && !*p.Success && p.Code == payloads.TooLarge:
		code = faas.ErrTooLarge
	case a.ok(), fromJob && p.Success != nil && !*p.Success:
		code = faas.ErrFunctionFailed
	case fromJob && a.status == http.StatusNotFound:
		code, notRun, hint = faas.ErrNotFound, true, "the binary does not have this job: "
	case a.status == http.StatusUnauthorized:
		code, notRun = faas.ErrPermissionDenied, true
		hint = "the ID token was refused" + because(a.header) +
			"; to fix it: set this machine's clock, or gcloud auth application-default login; "
		e.idTokens.Forget(r.url)
	case a.status == http.StatusForbidden:
		code, notRun = faas.ErrPermissionDenied, true
		hint = "the caller may not invoke the function; to fix it: gcloud run services add-iam-policy-binding " +
			kit.CloudRunNames.Of(e.set.service, uint32(r.job)) +
			" --project=" + e.set.project + " --region=" + e.set.region + " --role=" + invokerRole +
			" --member=MEMBER (MEMBER: who invokes); "
	case a.status == http.StatusNotFound, a.status == http.StatusGone:
		code, notRun = faas.ErrNotFound, true
	case a.status == http.StatusBadRequest, a.status == http.StatusMethodNotAllowed,
		a.status == http.StatusUnsupportedMediaType:
		code, notRun = faas.ErrInvalidArgument, true
	case a.status == http.StatusRequestEntityTooLarge:
		code, notRun = faas.ErrTooLarge, true
	case a.status == http.StatusTooManyRequests:
		code, notRun = faas.ErrThrottled, true
	case a.status == http.StatusGatewayTimeout, a.status == http.StatusRequestTimeout:
		code, hint = faas.ErrTimeout, "the function took longer than its timeout: "
	case a.status == http.StatusInternalServerError, a.status == http.StatusBadGateway,
		a.status == http.StatusServiceUnavailable && crashed(a.body):
		code, p.Code, message = faas.ErrFunctionFailed, cmp.Or(p.Code, "crash"),
			cmp.Or(message, "the instance ended before it answered: "+sanitize.Excerpt(a.body))
	}
	if code == faas.ErrFunctionFailed {
		return e.errorf(code, r, "%w", &faas.FunctionError{
			Type: sanitize.Line(p.Code, 40), Message: sanitize.Line(message, maxMessage), ExitCode: p.Details.ExitCode,
			LogTail: sanitize.Tail(p.Details.LogTail, maxTail),
		})
	}
	failed := e.errorf(code, r, "POST %s: status %d: %s%s", faas.RedactURL(r.url), a.status, hint,
		cmp.Or(sanitize.Line(message, maxMessage), sanitize.Excerpt(a.body)))
	failed.NotRun, failed.RetryAfter = notRun, httputil.RetryAfter(a.header, time.Now())
	return failed
}

// because says why a token was refused, if the front end says so.
func because(header http.Header) string {
	if why := header.Get("WWW-Authenticate"); why != "" {
		return " (" + sanitize.Line(why, maxDetail) + ")"
	}
	return ""
}

// maxTail limits how much of a function's log is kept, in bytes.
const maxTail = 4 << 10

func crashed(body []byte) bool {
	for _, text := range crashTexts {
		if strings.Contains(string(body), text) {
			return true
		}
	}
	return false
}

// invokeTrace records whether an invocation ever had a connection, and therefore whether it can
// have reached the function.
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
