//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Health reports whether the live version of the job's function can answer and whether calls reach
// it, according to its state at Lambda. It invokes nothing, and does not ask CloudWatch, which
// counts the invocations.
func (e *Executor) Health(ctx context.Context, jobID uint32) (faas.Health, error) {
	name := functionName(e.service, jobID)
	out, err := e.owned(ctx, "health", name)
	if err != nil {
		return faas.Health{}, err
	}
	c := out.Configuration
	if out.Tags[tagVersion] == "" {
		return faas.Health{Reason: "its deployment was not finished: no version is live; function state " + describe(c)}, nil
	}
	to, err := e.route(ctx, "health", out)
	if err != nil {
		return faas.Health{}, err
	}
	if to.problem != "" {
		return faas.Health{Reason: to.problem + "; function state " + describe(c)}, nil
	}
	if reserved := reservedOf(out); reserved != nil && *reserved == 0 {
		return faas.Health{Reason: switchedOff}, nil
	}
	live, err := e.get(ctx, name, to.version)
	if isNotFound(err) {
		return faas.Health{Reason: fmt.Sprintf("version %s, which is live, is missing; function state %s", to.version,
			describe(c))}, nil
	}
	if err != nil {
		return faas.Health{}, classify("health", int64(jobID), err)
	}
	switch live.Configuration.State {
	case types.StateActive, types.StateInactive, "": // an inactive function is woken by its next invocation
	default:
		return faas.Health{Reason: "live version: state " + describe(live.Configuration)}, nil
	}
	if c.LastUpdateStatus == types.LastUpdateStatusFailed {
		return faas.Health{Healthy: true, Reason: "the last update failed, the version before it answers: " + describe(c)},
			nil
	}
	return faas.Health{Healthy: true}, nil
}

// Warm sends n probes to the live version, at most 64 at once, and returns how many were answered.
// A probe runs no job. Lambda decides how many instances it starts for them; it tends to start one
// for each.
func (e *Executor) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	name := functionName(e.service, jobID)
	return kit.Warm(ctx, faas.AWSLambda, jobID, n, func(ctx context.Context) error {
		_, err := e.probe(ctx, name, e.options.alias, int64(jobID), false)
		var failed *faas.Error
		if errors.As(err, &failed) {
			named := *failed
			named.Op = "warm"
			return &named
		}
		return err
	})
}

// probe invokes a version without running a job, and returns how long its start took: zero if an
// instance was running. A probe may be repeated. A version that was just published may be unknown
// to parts of Lambda for a while.
func (e *Executor) probe(ctx context.Context, name, qualifier string, jobID int64, isNew bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, e.pace.probe)
	defer cancel()
	in := &lambda.InvokeInput{
		FunctionName: &name, Qualifier: &qualifier, InvocationType: types.InvocationTypeRequestResponse,
		LogType: types.LogTypeTail, Payload: []byte(faas.WarmRequest),
	}
	var init time.Duration
	err := e.repeating(e.pace.settle, "probing function %s", name).Until(ctx, func(ctx context.Context) error {
		out, err := e.lambda.Invoke(ctx, in)
		switch {
		case isBusy(err), isNew && isNotFound(err):
			return kit.NotYet(0, "%w", err)
		case err != nil:
			return err
		}
		tail := logTail(out.LogResult)
		init = metricsOf(tail).Init
		if out.FunctionError == nil {
			return nil
		}
		failed := functionFailed("probe", uint32(max(jobID, 0)), out.Payload, tail)
		if !handlerAnswered(failed) {
			return failed
		}
		// The answer may contain what the function was given.
		e.logger.warn("the function does not know the probe, and answers", "function", name)
		return nil
	})
	if err != nil {
		return 0, classify("probe", jobID, err)
	}
	return init, nil
}

// handlerAnswered reports whether a function's own handler raised the error, which shows that the
// function is started and answers. The names of Lambda's own errors have one of a few prefixes.
func handlerAnswered(failed *faas.Error) bool {
	var cause *faas.FunctionError
	if !errors.As(failed, &cause) || failed.Code != faas.ErrFunctionFailed || cause.Type == "" || cause.ExitCode != 0 {
		return false
	}
	origin, _, qualified := strings.Cut(cause.Type, ".")
	return !qualified || !slices.Contains([]string{"Runtime", "Sandbox", "Function", "Extension"}, origin)
}
