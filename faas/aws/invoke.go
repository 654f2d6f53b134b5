//go:build !faas_only || faas_aws

package aws

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
)

// Invoke runs the job once and waits for its answer. If the tags of the function say that it takes
// the compact form, the arguments travel as base64, so that 4.5 MiB of them fit in Lambda's 6 MiB,
// and as many of the output. Otherwise they travel as a list of numbers, of which 1.5 to 3 MiB fit.
// Invoke reads the tags before the first invocation, if the caller may.
//
// The SDK's own retries are off, because they would run a job up to three times, unless the option
// "repeatable_jobs" allows that. If Lambda refuses an invocation because it is waking a function
// that was idle for weeks, the job has certainly not run: Invoke waits for the function and sends
// the invocation again.
func (e *Executor) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	start, name := time.Now(), functionName(e.service, jobID)
	payload, known, err := e.payload(ctx, name, jobID, args)
	if err != nil {
		return nil, err
	}
	in := &lambda.InvokeInput{
		FunctionName: &name, Qualifier: &e.options.alias, InvocationType: types.InvocationTypeRequestResponse,
		LogType: types.LogTypeTail, Payload: payload,
	}
	out, err := e.call(ctx, in, jobID)
	if err == nil && known.form == payloads.Base64 && out.FunctionError != nil && isFormRefused(out.Payload) {
		older := &taking{version: aws.ToString(out.ExecutedVersion), until: time.Now().Add(formAgain)}
		e.forms.Replace(name, known, older, sameTaking)
		if err := syncLimit.Check(older.form, jobID, args); err != nil {
			return nil, err
		}
		known, in.Payload = older, appendRequest(older.form, jobID, args)
		out, err = e.call(ctx, in, jobID)
	}
	if err != nil {
		return nil, err
	}
	tail := logTail(out.LogResult)
	result := &faas.Result{Metrics: ofCall(metricsOf(tail), time.Since(start))}
	if out.FunctionError != nil {
		failed := functionFailed("invoke", jobID, out.Payload, tail)
		if failed.Code == faas.ErrTooLarge {
			failed = syncLimit.Answer(known.form, jobID, failed.Err)
			e.forget(name, known) // another version may take the form that carries more
		}
		return nil, failed
	}
	var response faas.Response
	if err := faas.ParseResponse(out.Payload, &response); err != nil {
		return nil, failure(jobID, "invoke", faas.ErrFunctionFailed,
			&faas.FunctionError{Type: "bad answer", Message: err.Error(), LogTail: tail})
	}
	e.answered(name, known, aws.ToString(out.ExecutedVersion), response.Compact)
	if !response.Success {
		return nil, failure(jobID, "invoke", faas.ErrFunctionFailed,
			&faas.FunctionError{Type: "job", Message: response.Error, LogTail: tail})
	}
	result.Output = response.Result
	if result.Metrics.Execution == 0 {
		result.Metrics.Execution = time.Duration(response.ExecutionMS * float64(time.Millisecond))
	}
	return result, nil
}

// InvokeEvent puts one run of the job into Lambda's queue, and returns when Lambda has accepted it.
// There is no answer. Lambda repeats a run that fails, twice by default, so the job must be safe to
// repeat. The arguments may have up to 1 MiB as JSON. The errors are those of Invoke.
func (e *Executor) InvokeEvent(ctx context.Context, jobID uint32, args []byte) error {
	name := functionName(e.service, jobID)
	payload, err := e.eventPayload(ctx, name, jobID, args)
	if err != nil {
		return err
	}
	_, err = e.call(ctx, &lambda.InvokeInput{
		FunctionName: &name, Qualifier: &e.options.alias, InvocationType: types.InvocationTypeEvent, Payload: payload,
	}, jobID)
	return err
}

// call sends an invocation. If it fails, the error says whether the function can have run.
func (e *Executor) call(ctx context.Context, in *lambda.InvokeInput, jobID uint32) (*lambda.InvokeOutput, error) {
	if err := ctx.Err(); err != nil {
		failed := classify("invoke", int64(jobID), err)
		failed.NotRun = true
		return nil, failed
	}
	out, err := e.lambda.Invoke(ctx, in, e.sendOnce)
	// Lambda is also busy while it wakes the function. A read may lag behind the refusal and show the
	// function as it was.
	if isBusy(err) {
		werr := e.repeating(e.pace.settle, "waking function %s", *in.FunctionName).Until(
			ctx, func(ctx context.Context) error {
				now, serr := e.settled(ctx, "invoke", int64(jobID), *in.FunctionName, *in.Qualifier, nil)
				if serr != nil {
					return serr
				}
				if now.Configuration.State == types.StateFailed { // which no waiting mends
					return nil
				}
				if out, err = e.lambda.Invoke(ctx, in, e.sendOnce); isBusy(err) {
					return kit.NotYet(0, "%w", err)
				}
				return nil
			})
		if werr != nil && (ctx.Err() != nil || !errors.Is(werr, kit.ErrNotYet)) {
			failed := *classify("invoke", int64(jobID), werr)
			failed.NotRun = true
			return nil, &failed
		}
	}
	if err == nil {
		return out, nil
	}
	failed := classify("invoke", int64(jobID), err)
	failed.NotRun = notStarted(err, failed.Code)
	if apiCode(err) == codeSealed {
		e.memory.setSealed(*in.FunctionName, true)
		failed.Err = fmt.Errorf("%s: %w", unreadable, failed.Err)
	}
	if failed.Code == faas.ErrConflict {
		failed.Code = faas.ErrUnavailable // Invoke has no conflict: the function is busy changing
	}
	return nil, failed
}

func (e *Executor) sendOnce(o *lambda.Options) {
	if !e.options.repeatable {
		o.Retryer = aws.NopRetryer{}
	}
}

// notStarted reports whether a failed invocation has certainly not started the function.
func notStarted(err error, code faas.Code) bool {
	if credentials := new(awsclient.CredentialsError); errors.As(err, &credentials) {
		return true // nothing was sent
	}
	if api := apiCode(err); api != "" {
		if neverStarted[api] {
			return true
		}
		if awsclient.Status(err) >= http.StatusInternalServerError {
			return false
		}
		switch code {
		case faas.ErrNotFound, faas.ErrThrottled, faas.ErrPermissionDenied, faas.ErrInvalidArgument, faas.ErrConflict,
			faas.ErrTooLarge:
			return true
		}
		return false
	}
	var (
		dial *net.OpError
		dns  *net.DNSError
	)
	switch {
	case errors.As(err, &dns), errors.Is(err, syscall.ECONNREFUSED):
		return true
	case errors.As(err, &dial):
		return dial.Op == "dial"
	}
	return false
}

// functionFailed returns the error for a function that ran, or whose process could not run, and
// gave no answer.
func functionFailed(op string, jobID uint32, payload []byte, tail string) *faas.Error {
	var told struct {
		ErrorMessage string          `json:"errorMessage"`
		ErrorType    string          `json:"errorType"`
		StackTrace   json.RawMessage `json:"stackTrace"`
	}
	if json.Unmarshal(payload, &told) != nil {
		told.ErrorMessage = strings.ToValidUTF8(string(bytes.TrimSpace(payload[:min(len(payload), 1024)])), "")
	}
	cause := &faas.FunctionError{Type: told.ErrorType, Message: told.ErrorMessage, ExitCode: exitCode(told.ErrorMessage),
		LogTail: tail}
	code := faas.ErrFunctionFailed
	switch {
	// The second is that of faas/job, which answers just before the timeout.
	case told.ErrorType == "Sandbox.Timedout", told.ErrorType == "Cancelled",
		strings.Contains(told.ErrorMessage, "Task timed out after"):
		code = faas.ErrTimeout
	case told.ErrorType == "Function.ResponseSizeTooLarge", told.ErrorType == "TooLarge": // the second is that of faas/job
		code = faas.ErrTooLarge
	}
	return failure(jobID, op, code, cause)
}

func failure(jobID uint32, op string, code faas.Code, cause *faas.FunctionError) *faas.Error {
	return &faas.Error{Op: op, Provider: faas.AWSLambda, JobID: int64(jobID), Code: code, Err: cause}
}

// exitCode reads the code from Lambda's "Error: Runtime exited with error: exit status 3".
func exitCode(message string) int {
	_, after, found := strings.Cut(message, "exit status ")
	if !found {
		return 0
	}
	digits := after
	for i, r := range after {
		if r < '0' || r > '9' {
			digits = after[:i]
			break
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

func logTail(encoded *string) string {
	text, err := base64.StdEncoding.DecodeString(aws.ToString(encoded))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(text), "\uFFFD")
}
