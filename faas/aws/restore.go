//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/json"
	"maps"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// Restore points the alias back at the version that was live, which keeps its code and
// configuration, and restores what belongs to the function itself: the reserved and the provisioned
// concurrency, the tags, and the configuration of $LATEST. The code of $LATEST, which nobody
// invokes, stays that of the update; the next Converge compares it and sends the wanted one. The
// state of a function without a live version says that it cannot be restored.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	defer e.forms.Forget(prior.ID)
	if err := e.restore(ctx, prior); err != nil {
		return ofJob(classify("restore", e.jobOf(prior.ID), err), e.jobOf(prior.ID))
	}
	e.memory.setChanged(prior.ID, false)
	return nil
}

func (e *Executor) restore(ctx context.Context, prior faas.State) error {
	id := prior.ID
	if prior.NotRestorable != "" {
		return faas.Errorf(faas.ErrUnsupported, "restore", faas.AWSLambda, "function %s cannot be put back: %s", id,
			prior.NotRestorable)
	}
	var was private
	if err := json.Unmarshal(prior.Private, &was); err != nil || was.Version == "" {
		return faas.Errorf(faas.ErrInvalidArgument, "restore", faas.AWSLambda,
			"the state of function %s to go back to names no version (%v)", id, err)
	}
	if err := e.checkAccount(ctx, "restore"); err != nil {
		return err
	}
	current, err := e.settled(ctx, "restore", e.jobOf(id), id, "", nil)
	if isNotFound(err) {
		return faas.Errorf(faas.ErrNotFound, "restore", faas.AWSLambda,
			"function %s is gone, with the versions to go back to: deploy again: %w", id, err)
	}
	if err != nil {
		return err
	}
	if err := e.checkOwner(ctx, "restore", id, current); err != nil {
		return err
	}
	version, err := e.settled(ctx, "restore", e.jobOf(id), id, was.Version, nil)
	if isNotFound(err) {
		return faas.Errorf(faas.ErrNotFound, "restore", faas.AWSLambda,
			"version %s of function %s, which was live, is gone: deploy again: %w", was.Version, id, err)
	}
	if err != nil {
		return err
	}
	live := was.Version
	if was.Alias != "" {
		live = was.Alias
	}
	if _, err := e.pointAlias(ctx, "restore", id, live, false); err != nil {
		return err
	}
	if current, err = e.restoreLatest(ctx, current, version.Configuration); err != nil {
		return err
	}
	if e.options.reservedConcurrency {
		if err := e.setReserved(ctx, "restore", current, was.Reserved, was.KeepWarm); err != nil {
			return err
		}
		current.Concurrency = &types.Concurrency{ReservedConcurrentExecutions: was.Reserved}
	}
	if was.KeepWarm > 0 || current.Tags[tagKeepWarm] != "" {
		if err := e.routed(ctx, "restore", id, live); err != nil {
			return err
		}
		if err := e.setProvisioned(ctx, "restore", id, was.KeepWarm); err != nil {
			return err
		}
	}
	tags, obsolete := e.priorTags(prior, was, current)
	return e.tag(ctx, current, tags, obsolete)
}

// priorTags returns the tags that record a version as live again, and the tags that no longer hold.
func (e *Executor) priorTags(prior faas.State, was private, current *lambda.GetFunctionOutput) (tags map[string]string,
	obsolete []string) {
	tags = map[string]string{
		tagFingerprint: was.Fingerprint, tagPackage: was.Package, tagVersion: was.Version, tagOptions: was.Options,
		tagLatest: e.latestDigest(current),
	}
	if prior.PackageSHA256 == "" {
		tags[tagLatest] = "unknown" // it could not be told before either, and has to stay so
	}
	switch {
	case prior.Compact:
		tags[tagPayload] = payloads.Mark(was.Package)
	case current.Tags[tagPayload] != "":
		obsolete = append(obsolete, tagPayload)
	}
	if prior.ColdStart > 0 {
		tags[tagColdStart] = inMilliseconds(prior.ColdStart)
	}
	switch {
	case was.KeepWarm > 0:
		tags[tagKeepWarm] = strconv.Itoa(int(was.KeepWarm))
	case current.Tags[tagKeepWarm] != "":
		obsolete = append(obsolete, tagKeepWarm)
	}
	maps.DeleteFunc(tags, func(_, value string) bool { return value == "" })
	return tags, obsolete
}

// restoreLatest gives $LATEST the configuration of a version. After an update by this executor it
// sends the configuration whatever a read says, since the read may be from before the update.
func (e *Executor) restoreLatest(ctx context.Context, current *lambda.GetFunctionOutput,
	version *types.FunctionConfiguration) (*lambda.GetFunctionOutput, error) {
	if version.Environment != nil && version.Environment.Error != nil {
		return current, nil // what cannot be read cannot be written; the version that answers has it
	}
	id, was, before := aws.ToString(current.Configuration.FunctionName), settingsOf(version), current.Configuration
	in := was.update(id, before, e.memory.changed(id))
	if in == nil {
		return current, nil
	}
	if err := e.configure(ctx, was.Role, in); err != nil {
		return nil, withoutValues(classify("restore", e.jobOf(id), err), was.Env)
	}
	after, err := e.settled(ctx, "restore", e.jobOf(id), id, "", applied(before, was.agrees))
	if err != nil {
		return nil, err
	}
	if after.Configuration.LastUpdateStatus == types.LastUpdateStatusFailed {
		return nil, e.failed("restore", after.Configuration)
	}
	return after, nil
}
