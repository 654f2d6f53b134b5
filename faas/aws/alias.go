//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// pointAlias points the whole alias at a version and reports whether it created the alias. isNew
// says that the alias probably does not exist yet, which saves a call.
func (e *Executor) pointAlias(ctx context.Context, op, name, version string, isNew bool) (created bool, err error) {
	create := func() error {
		return e.finish(ctx, func(ctx context.Context) error {
			_, err := e.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{
				FunctionName: &name, Name: &e.options.alias, FunctionVersion: &version})
			return err
		})
	}
	err = e.repeating(0, "pointing alias %q of function %s to version %s", e.options.alias, name, version).Until(
		ctx, func(ctx context.Context) error {
			if isNew {
				if err := create(); !isBusy(err) && !isNotFound(err) {
					created = err == nil
					return err
				}
			}
			var out *lambda.UpdateAliasOutput
			err := e.change(ctx, name, func(ctx context.Context) (err error) {
				out, err = e.lambda.UpdateAlias(ctx, &lambda.UpdateAliasInput{
					FunctionName: &name, Name: &e.options.alias, FunctionVersion: &version,
					RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{}},
				})
				return err
			})
			switch {
			case err == nil && len(weights(out.RoutingConfig)) > 0:
				return e.routed(ctx, op, name, version)
			case isNotFound(err): // an alias or a version that was created just now may be unknown for a while
				isNew = true
				return kit.NotYet(e.pace.settle, "%w", err)
			}
			return err
		})
	return created, err
}

// routed waits until the alias points to the version and to no other. An alias with provisioned
// concurrency moves in steps, and reads of any alias may lag behind.
func (e *Executor) routed(ctx context.Context, op, name, version string) error {
	wait := e.looking(e.pace.state, "waiting for alias %q of function %s", e.options.alias, name)
	wait.Absent = e.pace.settle
	err := wait.Until(ctx, func(ctx context.Context) error {
		out, err := e.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &name, Name: &e.options.alias})
		switch {
		case err != nil:
			return err
		case aws.ToString(out.FunctionVersion) != version:
			return kit.NotYet(e.pace.settle, "%w: it does not point to version %s: something else moves it", faas.ErrConflict,
				version)
		case len(weights(out.RoutingConfig)) > 0:
			return kit.NotYet(0, "%w: it is still moving to version %s", faas.ErrTimeout, version)
		}
		return nil
	})
	if err != nil {
		return classify(op, e.jobOf(name), err)
	}
	return nil
}

// route says where the alias sends invocations.
type route struct {
	version string // empty if there is no alias
	problem string // why that is not the version that was deployed
}

// route reads the alias of a function that has a live version.
func (e *Executor) route(ctx context.Context, op string, out *lambda.GetFunctionOutput) (route, error) {
	live, name := out.Tags[tagVersion], aws.ToString(out.Configuration.FunctionName)
	if live == "" {
		return route{}, nil
	}
	alias, err := e.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &name, Name: &e.options.alias})
	if isNotFound(err) {
		return route{problem: fmt.Sprintf("alias %q is missing", e.options.alias)}, nil
	}
	if err != nil {
		return route{}, classify(op, e.jobOf(name), err)
	}
	to := route{version: aws.ToString(alias.FunctionVersion)}
	switch others := weights(alias.RoutingConfig); {
	case to.version != live:
		to.problem = fmt.Sprintf("alias %q points to version %s, and version %s was deployed: deploy again", e.options.alias,
			to.version, live)
	case len(others) > 0:
		to.problem = fmt.Sprintf("alias %q sends some invocations to version %s", e.options.alias,
			strings.Join(slices.Sorted(maps.Keys(others)), ", "))
	case e.memory.sealed(name):
		to.problem = unreadable
	default:
		to.problem = e.roleProblem(ctx, out.Tags)
	}
	return to, nil
}

// weights are the versions that get a part of an alias's invocations.
func weights(r *types.AliasRoutingConfiguration) map[string]float64 {
	if r == nil {
		return nil
	}
	return r.AdditionalVersionWeights
}

// unreadable says why a function does not start.
const unreadable = "Lambda may not read its environment, as if its role had been deleted and made again: deploy " +
	"again, which sets the role anew"
