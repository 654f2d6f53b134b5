//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// reservedWanted returns the reserved concurrency that the job asks for, or nil for none.
func (c *convergence) reservedWanted() *int32 {
	if c.job.MaxConcurrency == 0 {
		return nil
	}
	return aws.Int32(int32(c.job.MaxConcurrency))
}

// setReserved sets or removes a function's reserved concurrency if it differs from what is wanted,
// or if a read may not show yet what this executor has set. Lambda does not reserve less than is
// kept warm, so that setReserved first lowers the number of warm instances if it has to.
func (e *Executor) setReserved(ctx context.Context, op string, current *lambda.GetFunctionOutput, want *int32,
	warm int32) error {
	name := aws.ToString(current.Configuration.FunctionName)
	has := reservedOf(current)
	if (has == nil) == (want == nil) && aws.ToInt32(has) == aws.ToInt32(want) && !e.memory.reserved(name) {
		return nil
	}
	e.memory.setReserved(name)
	if n, err := strconv.Atoi(current.Tags[tagKeepWarm]); err == nil && want != nil && int(*want) < n {
		// Without an alias, no instance is kept warm.
		if err := e.setProvisioned(ctx, op, name, warm); err != nil && !isNotFound(err) {
			return err
		}
	}
	return e.change(ctx, name, func(ctx context.Context) error {
		if want == nil {
			_, err := e.lambda.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: &name})
			return err
		}
		_, err := e.lambda.PutFunctionConcurrency(ctx,
			&lambda.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: want})
		if codeOf(err) == faas.ErrInvalidArgument {
			return faas.Errorf(faas.ErrInvalidArgument, op, faas.AWSLambda,
				"%d concurrent invocations cannot be reserved for function %s: lower max_concurrency, "+
					`or set the option "reserved_concurrency" to false: %w`, *want, name, err)
		}
		return err
	})
}

// switchedOff says why a function answers nothing.
const switchedOff = "its reserved concurrency is 0, which refuses every invocation"

func reservedOf(out *lambda.GetFunctionOutput) *int32 {
	if out.Concurrency == nil {
		return nil
	}
	return out.Concurrency.ReservedConcurrentExecutions
}

// keepWarm gives the alias the wanted provisioned concurrency. It writes the tag first, so that no
// provisioned concurrency is ever forgotten.
func (c *convergence) keepWarm(ctx context.Context, current *lambda.GetFunctionOutput,
	version string) (*lambda.GetFunctionOutput, error) {
	want, has := int32(c.job.KeepWarm), current.Tags[tagKeepWarm]
	if want == 0 && has == "" {
		return current, nil
	}
	if want > 0 && !c.created && has != strconv.Itoa(int(want)) {
		mark := map[string]string{tagKeepWarm: strconv.Itoa(int(want))}
		if err := c.tag(ctx, current, mark, nil); err != nil {
			return nil, err
		}
		current = withTags(current, mark)
	}
	c.report(faas.Progress{Step: "keep warm"})
	if has != "" && !c.created {
		if err := c.routed(ctx, "deploy", c.unit.ID, version); err != nil {
			return nil, err
		}
	}
	return current, c.setProvisioned(ctx, "deploy", c.unit.ID, want)
}

// setProvisioned sets the alias's provisioned concurrency and waits until as many instances are
// warm. If the number is right already, it sends nothing.
func (e *Executor) setProvisioned(ctx context.Context, op, name string, want int32) error {
	if want == 0 {
		err := e.change(ctx, name, func(ctx context.Context) error {
			_, err := e.lambda.DeleteProvisionedConcurrencyConfig(
				ctx, &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &e.options.alias})
			return err
		})
		if isNotFound(err) {
			return nil
		}
		return err
	}
	asked := false
	wait := e.looking(e.pace.state, "keeping %d instances of function %s warm", want, name)
	wait.Absent = e.pace.state
	err := wait.Until(ctx, func(ctx context.Context) error {
		out, err := e.lambda.GetProvisionedConcurrencyConfig(
			ctx, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &e.options.alias})
		if err != nil && (asked || !isNotFound(err)) {
			return err
		}
		right := err == nil && aws.ToInt32(out.RequestedProvisionedConcurrentExecutions) == want
		failed := right && out.Status == types.ProvisionedConcurrencyStatusEnumFailed
		switch {
		case right && out.Status == types.ProvisionedConcurrencyStatusEnumReady:
			return nil
		case failed && asked:
			return &vain{faas.Errorf(faas.ErrUnavailable, op, faas.AWSLambda,
				"%d instances of function %s cannot be kept warm: %s", want, name, aws.ToString(out.StatusReason))}
		case !asked && (failed || !right):
			if err := e.change(ctx, name, func(ctx context.Context) error {
				_, err := e.lambda.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{
					FunctionName: &name, Qualifier: &e.options.alias, ProvisionedConcurrentExecutions: &want,
				})
				return err
			}); err != nil {
				return &vain{err}
			}
			asked = true
		}
		return kit.NotYet(0, "%w: they are not warm", faas.ErrTimeout)
	})
	if failed, ok := err.(*vain); ok {
		return failed.error
	}
	return err
}

// vain is an error that ends a wait, whatever its code.
type vain struct{ error }
