//go:build !faas_only || faas_azure

package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

const (
	keyHeader = "X-Functions-Key"
	// maxBody is the size in bytes of the largest request and answer that Azure takes. In the
	// published form, a byte of arguments takes up to four.
	maxBody = 100 << 20
	// maxExtra is how many bytes an answer may have besides its result.
	maxExtra = 1 << 20
	// grace is how long to wait for an answer after the job's timeout: an instance may have to start
	// first.
	grace = 60 * time.Second
)

// invokable is what invocations need to know about the app. It is read before the first one, and
// again when the app refuses the key.
type invokable struct {
	host string
	key  faas.Secret
	jobs map[uint32]uint32 // timeouts in seconds
	form payloads.Form     // that its functions take
}

// resolve returns what is needed to invoke jobs. Concurrent callers wait for one read.
func (e *Executor) resolve(ctx context.Context, op string) (*invokable, error) {
	return e.app.Do(ctx, struct{}{}, func(ctx context.Context) (*invokable, error) { return e.readApp(ctx, op) })
}

// forgetApp drops what is known about the app. forgetIf does so if it is still what failed.
func (e *Executor) forgetApp() { e.app.Forget(struct{}{}) }

func (e *Executor) forgetIf(bad *invokable) {
	e.app.ForgetIf(struct{}{}, bad, sameApp)
}

func sameApp(a, b *invokable) bool { return a == b }

func (e *Executor) readApp(ctx context.Context, op string) (*invokable, error) {
	s, err := e.known(ctx, op, e.names.app)
	if err != nil {
		return nil, err
	}
	app := &invokable{host: s.functionHost(), jobs: parseJobs(s.Tags[tagJobs])}
	if isCompact(s.Tags) {
		app.form = payloads.Raw
	}
	if app.host == "" {
		return nil, faas.Errorf(faas.ErrUnavailable, op, faas.AzureFunctions, "Azure names no host of app %s", e.names.app)
	}
	key, err := e.functionKey(ctx, e.names.app)
	if err != nil {
		return nil, err
	}
	app.key = faas.NewSecret(key)
	if app.jobs != nil {
		return app, nil
	}
	names, err := e.functions(ctx, e.names.app) // the deployment is unfinished, or the jobs are too many for a tag
	if err != nil {
		return nil, err
	}
	app.jobs = map[uint32]uint32{}
	for _, name := range names {
		if id, err := strconv.ParseUint(strings.TrimPrefix(name, functionPrefix), 10, 32); err == nil &&
			functionName(uint32(id)) == name {
			app.jobs[uint32(id)] = maxPlanTimeoutSecs
		}
	}
	return app, nil
}

func jobURL(host string, jobID uint32) string {
	return "https://" + host + "/" + routePrefix + "/" + functionName(jobID)
}

// isCompact reports whether the tags of an app say that its functions take the compact form.
func isCompact(tags map[string]string) bool {
	return payloads.IsMark(tags[tagPayload], tags[tagPackage])
}

// carries is the payloads that Azure carries.
var carries = payloads.Of(faas.AzureFunctions, maxBody, payloads.Raw)

// Invoke runs the job with the app's function key, which it reads once, and again when the app
// refuses it. Request and answer have at most 100 MiB each. If the app's tags say that it takes
// arguments as they are, Invoke sends them so; otherwise it sends the JSON of the published form.
func (e *Executor) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	start := time.Now()
	if err := carries.Check(payloads.Raw, jobID, args); err != nil {
		return nil, err // which fits in no form
	}
	for attempt, looked := 0, false; ; attempt++ {
		app, err := e.resolve(ctx, "invoke")
		if err != nil {
			if failed := e.notRun(ctx, jobID, err); failed.Code != faas.ErrUnavailable || attempt > 0 ||
				!httputil.Sleep(ctx, e.pace.retry) {
				return nil, failed
			}
			continue // the host is starting
		}
		if _, there := app.jobs[jobID]; !there {
			return nil, e.notRun(ctx, jobID, faas.JobErrorf(faas.ErrNotFound, "invoke", faas.AzureFunctions, jobID,
				"app %s has no function for this job", e.names.app))
		}
		if err := carries.Check(app.form, jobID, args); err != nil {
			if looked {
				return nil, err
			}
			looked = true // it may take the other form by now
			e.forgetIf(app)
			attempt--
			continue
		}
		result, failed := e.invoke(ctx, app, jobID, args)
		if failed == nil {
			result.Metrics.Total = time.Since(start)
			return result, nil
		}
		if again := e.reconsider(ctx, app, failed); again && attempt == 0 &&
			(failed.Code != faas.ErrUnavailable || httputil.Sleep(ctx, e.pace.retry)) {
			continue
		}
		return nil, failed
	}
}

// reconsider drops what is known about the app if it may have caused a failure: the app may be
// gone, or have a new key. It reports whether the call can be repeated, because the host has
// certainly run nothing.
func (e *Executor) reconsider(ctx context.Context, app *invokable, failed *faas.Error) bool {
	switch failed.Code {
	case faas.ErrPermissionDenied, faas.ErrUnavailable:
		e.forgetIf(app)
		return failed.NotRun && ctx.Err() == nil
	case faas.ErrNotFound, faas.ErrTooLarge:
		e.forgetIf(app)
	}
	return false
}

// notRun returns the error of an invocation that was not sent.
func (e *Executor) notRun(ctx context.Context, jobID uint32, err error) *faas.Error {
	failed := e.fail(ctx, "invoke", int64(jobID), err)
	failed.Op, failed.JobID, failed.NotRun = "invoke", int64(jobID), true
	return failed
}

// invoke sends a request once. Only if the app refuses its form, invoke sends a second one, in the
// published form.
func (e *Executor) invoke(ctx context.Context, app *invokable, jobID uint32, args []byte) (*faas.Result, *faas.Error) {
	if app.form == payloads.Raw {
		body := payloads.NewBody(args)
		defer body.Release()
		result, status, failed := e.invokeOnce(ctx, app, jobID, payloads.CallHeaders(jobID, args), body.Open, payloads.Length)
		if !payloads.Refused(status) {
			return result, failed
		}
		known := app
		app = &invokable{known.host, known.key, known.jobs, payloads.Numbers}
		e.app.Replace(struct{}{}, known, app, sameApp)
		if err := carries.Check(app.form, jobID, args); err != nil {
			return nil, err.(*faas.Error)
		}
	}
	text := faas.AppendRequest(nil, jobID, args)
	header := http.Header{"Content-Type": {"application/json"}}
	result, _, failed := e.invokeOnce(ctx, app, jobID, header,
		func() io.ReadCloser { return io.NopCloser(bytes.NewReader(text)) }, int64(len(text)))
	return result, failed
}

// invokeOnce sends one request once. It also returns the status of the answer.
func (e *Executor) invokeOnce(ctx context.Context, app *invokable, jobID uint32, header http.Header,
	body func() io.ReadCloser, size int64) (*faas.Result, int, *faas.Error) {
	timeout := time.Duration(app.jobs[jobID]) * time.Second
	inner, cancel := context.WithTimeout(ctx, timeout+grace)
	defer cancel()
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(inner, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(traced, http.MethodPost, jobURL(app.host, jobID), body())
	if err != nil {
		return nil, 0, e.notRun(ctx, jobID, err)
	}
	req.ContentLength, req.GetBody = size, func() (io.ReadCloser, error) { return body(), nil }
	if size == 0 {
		req.Body = http.NoBody // which tells that the length is known
	}
	req.Header = header
	req.Header.Set("Accept", "application/json, application/octet-stream")
	req.Header.Set(keyHeader, app.key.Reveal())
	sent := time.Now()
	resp, err := e.http.Do(req)
	if err == nil {
		var answer []byte
		answer, err = readAnswer(resp)
		if err == nil {
			result, failed := e.result(ctx, app.form, jobID, resp, answer, timeout > 0 && time.Since(sent) >= timeout)
			return result, resp.StatusCode, failed
		}
	}
	failed := e.fail(ctx, "invoke", int64(jobID), err)
	failed.NotRun = !connected.Load()
	return nil, 0, failed
}

// readAnswer reads the body of an answer, up to a little more than the limit.
func readAnswer(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	var b bytes.Buffer
	if resp.ContentLength > 0 && resp.ContentLength <= maxBody {
		b.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	_, err := b.ReadFrom(io.LimitReader(resp.Body, maxBody+maxExtra+1))
	return b.Bytes(), err
}

// result converts an answer to a result or an error. late says that the answer took longer than the
// job's timeout.
func (e *Executor) result(ctx context.Context, form payloads.Form, jobID uint32, resp *http.Response, body []byte,
	late bool) (*faas.Result, *faas.Error) {
	refuse := func(code faas.Code, format string, args ...any) *faas.Error {
		failed := e.fail(ctx, "invoke", int64(jobID),
			faas.JobErrorf(code, "invoke", faas.AzureFunctions, jobID, format, args...))
		failed.RetryAfter = retryAfter(resp.Header)
		return failed
	}
	if len(body) > maxBody+maxExtra {
		return nil, carries.Answer(form, jobID, fmt.Errorf("it is larger than %d bytes", maxBody))
	}
	var answer faas.Response
	var parsed error
	isRaw := form == payloads.Raw && resp.StatusCode == http.StatusOK
	if isRaw {
		answer, parsed = payloads.ParseAnswer(resp.Header, body)
	} else {
		parsed = faas.ParseResponse(body, &answer)
	}
	// Any other answer is the host's or the front end's.
	isJob := parsed == nil && (isRaw || bytes.Contains(body, []byte(`"success"`)) ||
		bytes.Contains(body, []byte(`"result"`)))
	status := resp.StatusCode
	switch {
	case isJob && answer.Success && status < 300:
		if answer.JobID != jobID {
			return nil, refuse(faas.ErrUnavailable, "the answer is of job %d", answer.JobID)
		}
		metrics := faas.Metrics{Execution: milliseconds(answer.ExecutionMS), MemoryMB: answer.MemoryUsedMB}
		if answer.Result == nil {
			answer.Result = []byte{}
		}
		if err := carries.CheckOutput(jobID, answer.Result); err != nil {
			return nil, err
		}
		return &faas.Result{Output: answer.Result, Metrics: metrics}, nil
	case isJob && !answer.Success && isTooLarge(body):
		return nil, carries.Answer(form, jobID, &faas.FunctionError{
			Type: payloads.TooLarge, Message: sanitize.Line(e.hider()(answer.Error), maxMessage)})
	case isJob && !answer.Success:
		return nil, refuse(faas.ErrFunctionFailed, "%w",
			&faas.FunctionError{Message: sanitize.Line(e.hider()(answer.Error), maxMessage)})
	case status < 300:
		return nil, refuse(faas.ErrUnavailable, "the function answered with something else than the answer of a job: %s",
			sanitize.Line(string(body[:min(len(body), 200)]), 200))
	case status == http.StatusGatewayTimeout, late && status >= 500:
		return nil, refuse(faas.ErrTimeout, "the job took longer than its timeout, or than Azure waits, which answered "+
			"with status %d", status)
	case status == http.StatusInternalServerError && ctx.Err() != nil:
		return nil, refuse(faas.ErrTimeout, "the caller left before the job answered: %w", ctx.Err())
	case status == http.StatusInternalServerError:
		return nil, refuse(faas.ErrFunctionFailed, "%w", &faas.FunctionError{
			Type: "host", Message: "the process of the job ended, or did not answer in HTTP; " +
				"Azure says no more than status 500 " + sanitize.Line(e.hider()(messageOf(body)), maxMessage),
		})
	}
	message := sanitize.Line(e.hider()(messageOf(body)), maxMessage)
	if status == http.StatusNotFound || status == http.StatusServiceUnavailable && isNotRunning(message) {
		// The app has a function for the job, so either the front end knows no host of the app, or the
		// host does not know its functions yet.
		failed := refuse(faas.ErrUnavailable, "status %d %s: the app's host is starting, or has been removed", status,
			message)
		failed.NotRun = true
		return nil, failed
	}
	failed := refuse(rules.Of(kit.Answer{Status: status, Text: message}).Code, "status %d %s", status, message)
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusTooManyRequests:
		failed.NotRun = true // with these the host, or the binary before it runs a job, says that it refused the request
	}
	return nil, failed
}

// isTooLarge reports whether a function says that its answer is too large.
func isTooLarge(body []byte) bool {
	var told struct {
		Code string `json:"code"`
	}
	return json.Unmarshal(body, &told) == nil && told.Code == payloads.TooLarge
}

// isNotRunning reports whether a message is the front end's for a host that does not run yet, to
// which it passed nothing on.
func isNotRunning(message string) bool {
	return strings.Contains(strings.ToLower(message), "function host is not running")
}

func milliseconds(ms float64) time.Duration {
	if !(ms > 0 && ms < float64(1<<63-1)/float64(time.Millisecond)) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}
