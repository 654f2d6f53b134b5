//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/payloads"
)

// private is what Restore needs beyond the public part of a State.
type private struct {
	Version     string `json:"version"`         // published, and live
	Alias       string `json:"alias,omitempty"` // the version that the alias pointed to, if it was another one
	Options     string `json:"options"`
	Package     string `json:"package"`
	Fingerprint string `json:"fingerprint"`
	Reserved    *int32 `json:"reserved,omitempty"` // reserved concurrency; nil for none
	KeepWarm    int32  `json:"keep_warm,omitempty"`
}

// Observe says what exists under a function's name, with one read of the function and one of the alias. The code and the configuration it reports are those
// of the live version. They are left empty when the alias does not point to it, when $LATEST is not as the last Converge left it, or when the options of the
// executor have changed since.
func (e *Executor) Observe(ctx context.Context, id string) (faas.State, error) {
	out, err := e.owned(ctx, "observe", id)
	if err != nil {
		return faas.State{}, err
	}
	to, err := e.route(ctx, "observe", out)
	if err != nil {
		return faas.State{}, err
	}
	return e.stateOf(out, to), nil
}

// route is where the alias sends invocations.
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
		to.problem = fmt.Sprintf("alias %q points to version %s, and version %s was deployed: deploy again", e.options.alias, to.version, live)
	case len(others) > 0:
		to.problem = fmt.Sprintf("alias %q sends some invocations to version %s", e.options.alias, strings.Join(slices.Sorted(maps.Keys(others)), ", "))
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

// unreadable is why a function does not start.
const unreadable = "Lambda may not read its environment, as if its role had been deleted and made again: deploy again, which sets the role anew"

// switchedOff is why a function answers nothing.
const switchedOff = "its reserved concurrency is 0, which refuses every invocation"

func reservedOf(out *lambda.GetFunctionOutput) *int32 {
	if out.Concurrency == nil {
		return nil
	}
	return out.Concurrency.ReservedConcurrentExecutions
}

// owned reads a function and refuses one that is not of this service.
func (e *Executor) owned(ctx context.Context, op, id string) (*lambda.GetFunctionOutput, error) {
	if !namePattern.MatchString(id) {
		return nil, faas.Errorf(faas.ErrNotFound, op, faas.AWSLambda, "%q is no name that a Lambda function can have", id)
	}
	jobID := e.jobOf(id)
	out, err := e.get(ctx, id, "")
	if err != nil {
		return nil, classify(op, jobID, err)
	}
	if err := e.checkOwner(ctx, op, id, out); err != nil {
		return nil, err
	}
	return out, nil
}

// checkOwner refuses a function that is not of this service. An answer without tags is asked for them once more: not everyone who may read a function
// may read its tags, and the other call says so.
func (e *Executor) checkOwner(ctx context.Context, op, id string, out *lambda.GetFunctionOutput) error {
	if len(out.Tags) == 0 && out.TagsError == nil {
		arn := unqualified(aws.ToString(out.Configuration.FunctionArn))
		list, err := e.lambda.ListTags(ctx, &lambda.ListTagsInput{Resource: &arn})
		if err != nil {
			return classify(op, e.jobOf(id), err)
		}
		out.Tags = list.Tags
	}
	if e.owns(out.Tags) {
		return nil
	}
	var err *faas.Error
	if out.TagsError != nil && len(out.Tags) == 0 {
		code, remedy := rules.Of(kit.Answer{Code: aws.ToString(out.TagsError.ErrorCode)}).Code, ""
		switch code {
		case faas.ErrPermissionDenied:
			remedy = ": allow lambda:ListTags"
		case faas.ErrNotFound: // the function was found
			code = faas.ErrUnavailable
		}
		err = faas.Errorf(code, op, faas.AWSLambda, "the tags of function %s cannot be read (%s: %s)%s",
			id, aws.ToString(out.TagsError.ErrorCode), aws.ToString(out.TagsError.Message), remedy)
	} else {
		err = faas.Errorf(faas.ErrConflict, op, faas.AWSLambda,
			"function %s exists and does not belong to service %q (its tag %s is %q): remove or rename it, or name the service otherwise",
			id, e.service, tagService, out.Tags[tagService])
	}
	err.JobID = e.jobOf(id)
	return err
}

// jobOf returns the job of one of the service's function names, for errors.
func (e *Executor) jobOf(id string) int64 {
	if job, ok := jobOfName(e.service, id); ok {
		return int64(job)
	}
	return faas.NoJob
}

func (e *Executor) stateOf(out *lambda.GetFunctionOutput, to route) faas.State {
	c, tags, digest := out.Configuration, out.Tags, e.latestDigest(out)
	e.memory.told(aws.ToString(c.FunctionName), tags[tagVersion])
	s := faas.State{
		ID: aws.ToString(c.FunctionName), Status: faas.StatusReady, Resource: unqualified(aws.ToString(c.FunctionArn)),
		// Lambda's own RevisionId also changes with states and with publishing, when the unit does not.
		Revision:   tags[tagVersion] + "." + digest,
		DeployedAt: lambdaTime(aws.ToString(c.LastModified)), Compact: payloads.IsMark(tags[tagPayload], tags[tagPackage]),
	}
	if job, err := strconv.ParseUint(tags[tagJob], 10, 32); err == nil {
		s.JobIDs = []uint32{uint32(job)}
	}
	if ms, err := strconv.ParseFloat(tags[tagColdStart], 64); err == nil && ms > 0 {
		s.ColdStart = time.Duration(ms * float64(time.Millisecond))
	}
	switch {
	case c.State == types.StateFailed:
		s.Status, s.Reason = faas.StatusFailed, describe(c)
	case inTransition(c):
		s.Status, s.Reason = faas.StatusPending, describe(c)
	case tags[tagVersion] == "":
		s.Status, s.Reason = faas.StatusFailed, "its deployment was not finished: no version is live"
	case to.version == "":
		s.Status, s.Reason = faas.StatusFailed, to.problem
	case to.problem != "":
		s.Reason = to.problem
	case reservedOf(out) != nil && *reservedOf(out) == 0:
		s.Reason = switchedOff
		if e.options.reservedConcurrency {
			s.Status = faas.StatusFailed
		}
	case c.LastUpdateStatus == types.LastUpdateStatusFailed:
		s.Reason = describe(c) + "; the version before it is live"
	}
	if tags[tagVersion] == "" {
		s.NotRestorable = "no version of it was ever live"
	} else {
		if tags[tagLatest] == digest && to.problem == "" {
			s.PackageSHA256 = tags[tagPackage]
			if tags[tagOptions] == e.options.digest() {
				s.Fingerprint = tags[tagFingerprint]
			}
		}
		p := private{Version: tags[tagVersion], Options: tags[tagOptions], Package: tags[tagPackage], Fingerprint: tags[tagFingerprint]}
		if to.version != p.Version {
			p.Alias = to.version
		}
		p.Reserved = reservedOf(out)
		if n, err := strconv.ParseInt(tags[tagKeepWarm], 10, 32); err == nil {
			p.KeepWarm = int32(n)
		}
		s.Private = p.encode()
	}
	return s
}

func (p private) encode() json.RawMessage {
	text, err := json.Marshal(p)
	if err != nil {
		panic("aws: a state does not marshal: " + err.Error()) // strings and numbers always do
	}
	return text
}

// List returns the functions of the service: those with its names and its tags. It reads no alias, as Observe does: Lambda takes far fewer calls of other
// kinds than reads of functions.
func (e *Executor) List(ctx context.Context) ([]faas.State, error) {
	names, err := e.names(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]*faas.State, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, name := range names {
		group.Go(func() error {
			out, err := e.owned(ctx, "list", name)
			switch faas.CodeOf(err) {
			case "":
				s := e.stateOf(out, route{version: out.Tags[tagVersion]})
				found[i] = &s
			case faas.ErrNotFound, faas.ErrConflict: // removed since, or somebody else's
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	states := make([]faas.State, 0, len(found))
	for _, s := range found {
		if s != nil {
			states = append(states, *s)
		}
	}
	return states, nil
}

// names returns the names of the account's functions that the service's could have, sorted.
func (e *Executor) names(ctx context.Context) ([]string, error) {
	var names []string
	pages := lambda.NewListFunctionsPaginator(e.lambda, &lambda.ListFunctionsInput{MaxItems: aws.Int32(50)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, classify("list", faas.NoJob, err)
		}
		for _, f := range page.Functions {
			if name := aws.ToString(f.FunctionName); !slices.Contains(names, name) {
				if _, ok := jobOfName(e.service, name); ok {
					names = append(names, name)
				}
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// unqualified cuts version or alias off the ARN of a function.
func unqualified(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 7 {
		return strings.Join(parts[:7], ":")
	}
	return arn
}

func lambdaTime(text string) time.Time {
	for _, layout := range []string{"2006-01-02T15:04:05-0700", time.RFC3339} { // with any fraction of a second
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// codeSHA256 is Lambda's form of a package's hash.
func codeSHA256(hexSum string) string {
	sum, err := hex.DecodeString(hexSum)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sum)
}
