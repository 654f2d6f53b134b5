//go:build !faas_only || faas_azure

package azure

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
)

const (
	keyHeader = "X-Functions-Key"
	// maxBody is the largest request and answer that Azure takes, in bytes. Both are JSON, where a byte of arguments takes up to four.
	maxBody = 100 << 20
	// maxExtra is what an answer may have besides its result, in bytes.
	maxExtra = 1 << 20
	// grace is how long after a job's timeout an answer is still waited for: an instance may have to start first.
	grace = 60 * time.Second
)

// invokable is what invocations need of the app: it is read with the first and again when the app refuses the key.
type invokable struct {
	host string
	key  faas.Secret
	jobs map[uint32]uint32 // timeouts in seconds
}

// resolve returns what is needed to invoke jobs. Many callers at once cost one read, for which the others wait.
func (e *Executor) resolve(ctx context.Context, op string) (*invokable, error) {
	return e.app.Do(ctx, struct{}{}, func(ctx context.Context) (*invokable, error) { return e.readApp(ctx, op) })
}

// forgetApp drops what is known of the app; forgetIf does if that is still what did not work.
func (e *Executor) forgetApp() { e.app.Forget(struct{}{}) }

func (e *Executor) forgetIf(bad *invokable) {
	e.app.ForgetIf(struct{}{}, bad, func(a, b *invokable) bool { return a == b })
}

func (e *Executor) readApp(ctx context.Context, op string) (*invokable, error) {
	s, err := e.known(ctx, op, e.names.app)
	if err != nil {
		return nil, err
	}
	app := &invokable{host: s.functionHost(), jobs: parseJobs(s.Tags[tagJobs])}
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
		if id, err := strconv.ParseUint(strings.TrimPrefix(name, functionPrefix), 10, 32); err == nil && functionName(uint32(id)) == name {
			app.jobs[uint32(id)] = maxPlanTimeoutSecs
		}
	}
	return app, nil
}

func jobURL(host string, jobID uint32) string {
	return "https://" + host + "/" + routePrefix + "/" + functionName(jobID)
}

// Invoke runs the job with the app's function key, which is read once and again when the app refuses it. The request, which is JSON, and the
// answer have at most 100 MiB each.
func (e *Executor) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	start := time.Now()
	if size := requestSize(jobID, args); size > maxBody {
		err := faas.JobErrorf(faas.ErrTooLarge, "invoke", faas.AzureFunctions, jobID,
			"the arguments have %d bytes, which make a request of %d bytes as JSON; the limit is %d bytes", len(args), size, maxBody)
		err.NotRun = true
		return nil, err
	}
	body := faas.AppendRequest(nil, jobID, args)
	for attempt := 0; ; attempt++ {
		app, err := e.resolve(ctx, "invoke")
		if err != nil {
			if failed := e.notRun(ctx, jobID, err); failed.Code != faas.ErrUnavailable || attempt > 0 || !kit.Sleep(ctx, e.pace.retry) {
				return nil, failed
			}
			continue // the host is starting
		}
		if _, there := app.jobs[jobID]; !there {
			return nil, e.notRun(ctx, jobID, faas.JobErrorf(faas.ErrNotFound, "invoke", faas.AzureFunctions, jobID, "app %s has no function for this job", e.names.app))
		}
		result, failed := e.invokeOnce(ctx, app, jobID, body)
		if failed == nil {
			result.Metrics.Total = time.Since(start)
			return result, nil
		}
		if again := e.reconsider(ctx, app, failed); again && attempt == 0 && (failed.Code != faas.ErrUnavailable || kit.Sleep(ctx, e.pace.retry)) {
			continue
		}
		return nil, failed
	}
}

// reconsider forgets what is known of the app where a failure may come of that: the app may be gone, or have a new key. It reports whether the
// call can be made again, because the host has certainly run nothing.
func (e *Executor) reconsider(ctx context.Context, app *invokable, failed *faas.Error) bool {
	switch failed.Code {
	case faas.ErrPermissionDenied, faas.ErrUnavailable:
		e.forgetIf(app)
		return failed.NotRun && ctx.Err() == nil
	case faas.ErrNotFound:
		e.forgetIf(app)
	}
	return false
}

// notRun makes the error of an invocation that was not sent.
func (e *Executor) notRun(ctx context.Context, jobID uint32, err error) *faas.Error {
	failed := e.fail(ctx, "invoke", int64(jobID), err)
	failed.Op, failed.JobID, failed.NotRun = "invoke", int64(jobID), true
	return failed
}

// requestSize returns the size of the JSON of an invocation.
func requestSize(jobID uint32, args []byte) int {
	n := len(`{"job_id":,"args":[]}`) + len(strconv.FormatUint(uint64(jobID), 10)) + max(len(args)-1, 0)
	for _, b := range args {
		switch {
		case b >= 100:
			n += 3
		case b >= 10:
			n += 2
		default:
			n++
		}
	}
	return n
}

// invokeOnce sends one request once.
func (e *Executor) invokeOnce(ctx context.Context, app *invokable, jobID uint32, body []byte) (*faas.Result, *faas.Error) {
	timeout := time.Duration(app.jobs[jobID]) * time.Second
	inner, cancel := context.WithTimeout(ctx, timeout+grace)
	defer cancel()
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(inner, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(traced, http.MethodPost, jobURL(app.host, jobID), bytes.NewReader(body))
	if err != nil {
		return nil, e.notRun(ctx, jobID, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set(keyHeader, app.key.Reveal())
	sent := time.Now()
	resp, err := e.http.Do(req)
	if err == nil {
		var answer []byte
		answer, err = readAnswer(resp)
		if err == nil {
			return e.result(ctx, jobID, resp, answer, timeout > 0 && time.Since(sent) >= timeout)
		}
	}
	failed := e.fail(ctx, "invoke", int64(jobID), err)
	failed.NotRun = !connected.Load()
	return nil, failed
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

// result makes the result, or the error, of an answer. late says that it took longer than the job's timeout.
func (e *Executor) result(ctx context.Context, jobID uint32, resp *http.Response, body []byte, late bool) (*faas.Result, *faas.Error) {
	refuse := func(code faas.Code, format string, args ...any) *faas.Error {
		failed := e.fail(ctx, "invoke", int64(jobID), faas.JobErrorf(code, "invoke", faas.AzureFunctions, jobID, format, args...))
		failed.RetryAfter = retryAfter(resp.Header)
		return failed
	}
	if len(body) > maxBody+maxExtra {
		return nil, refuse(faas.ErrTooLarge, "the answer is larger than %d bytes", maxBody)
	}
	var answer faas.Response
	parsed := faas.ParseResponse(body, &answer)
	isJob := parsed == nil && (bytes.Contains(body, []byte(`"success"`)) || bytes.Contains(body, []byte(`"result"`))) // else it is the host's, or the front end's
	status := resp.StatusCode
	switch {
	case isJob && answer.Success && status < 300:
		if answer.JobID != jobID {
			return nil, refuse(faas.ErrUnavailable, "the answer is of job %d", answer.JobID)
		}
		metrics := faas.Metrics{Execution: milliseconds(answer.ExecutionMS), MemoryMB: answer.MemoryUsedMB}
		return &faas.Result{Output: slices.Concat([]byte{}, answer.Result), Metrics: metrics}, nil
	case isJob && !answer.Success:
		return nil, refuse(faas.ErrFunctionFailed, "%w", &faas.FunctionError{Message: foreign.Line(e.hider()(answer.Error), maxMessage)})
	case status < 300:
		return nil, refuse(faas.ErrUnavailable, "the function answered with something else than the answer of a job: %s", foreign.Line(string(body[:min(len(body), 200)]), 200))
	case status == http.StatusGatewayTimeout, late && status >= 500:
		return nil, refuse(faas.ErrTimeout, "the job took longer than its timeout, or than Azure waits, which answered with status %d", status)
	case status == http.StatusInternalServerError:
		return nil, refuse(faas.ErrFunctionFailed, "%w", &faas.FunctionError{
			Type: "host", Message: "the process of the job ended, or did not answer in HTTP; Azure says no more than status 500 " + foreign.Line(e.hider()(messageOf(body)), maxMessage),
		})
	}
	message := foreign.Line(e.hider()(messageOf(body)), maxMessage)
	if status == http.StatusNotFound || status == http.StatusServiceUnavailable && isNotRunning(message) {
		// The app has a function for the job, so it is the front end that knows no host of the app, or the host that does not know its functions yet.
		failed := refuse(faas.ErrUnavailable, "status %d %s: the app's host is starting, or has been removed", status, message)
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

// isNotRunning reports whether a message is what the front end says of a host that is not there yet, to which it passed nothing on.
func isNotRunning(message string) bool {
	return strings.Contains(strings.ToLower(message), "function host is not running")
}

func milliseconds(ms float64) time.Duration {
	if !(ms > 0 && ms < float64(1<<63-1)/float64(time.Millisecond)) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}
