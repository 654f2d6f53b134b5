//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// private holds what Restore needs beyond the public part of a State.
type private struct {
	Version     string `json:"version"`         // published, and live
	Alias       string `json:"alias,omitempty"` // the version that the alias pointed to, if it was another one
	Options     string `json:"options"`
	Package     string `json:"package"`
	Fingerprint string `json:"fingerprint"`
	Reserved    *int32 `json:"reserved,omitempty"` // reserved concurrency; nil for none
	KeepWarm    int32  `json:"keep_warm,omitempty"`
}

// Observe reports what exists under a function's name, with one read of the function and one of the
// alias. The code and the configuration are those of the live version. They are empty if the alias
// does not point to it, if $LATEST is not as the last Converge left it, or if the options of the
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
		p := private{Version: tags[tagVersion], Options: tags[tagOptions], Package: tags[tagPackage],
			Fingerprint: tags[tagFingerprint]}
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

// List returns the functions that have a name and the tags of the service. Unlike Observe, it reads
// no alias: Lambda allows far fewer calls of other kinds than reads of functions.
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
