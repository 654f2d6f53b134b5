//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Restore points the alias back at the version that was live, and gives $LATEST that version's configuration again. It needs no package: published
// versions keep their code. With the package, $LATEST gets the code back too.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	id, u := prior.ID, faas.Unit{ID: prior.ID}
	if err := e.restore(ctx, id, u, prior); err != nil {
		return ofJob(classify("restore", e.jobOf(id), err), e.jobOf(id))
	}
	return nil
}

func (e *Executor) restore(ctx context.Context, id string, u faas.Unit, prior faas.State) error {
	var was private
	if len(prior.Private) > 0 {
		if err := json.Unmarshal(prior.Private, &was); err != nil {
			return faas.Errorf(faas.ErrInvalidArgument, "restore", faas.AWSLambda, "the state of %s to go back to is unreadable: %w", id, err)
		}
	}
	current, err := e.owned(ctx, "restore", id)
	if faas.CodeOf(err) == faas.ErrNotFound || (err == nil && was.Version == "") {
		return e.rebuild(ctx, u, prior, "there is no version to go back to")
	}
	if err == nil {
		err = e.checkAccount(ctx, "restore")
	}
	if err != nil {
		return err
	}
	if inTransition(current.Configuration) {
		if current, err = e.settled(ctx, "restore", e.jobOf(id), id, "", nil); err != nil {
			return err
		}
	}
	version, err := e.get(ctx, id, was.Version)
	if isNotFound(err) {
		return e.rebuild(ctx, u, prior, "version "+was.Version+" is gone")
	}
	if err != nil {
		return err
	}
	if err := e.pointAlias(ctx, id, was.Version, false); err != nil {
		return err
	}
	if current, err = e.restoreLatest(ctx, id, u, current, version.Configuration); err != nil {
		return err
	}
	if e.options.reservedConcurrency {
		if err := e.setReserved(ctx, "restore", current, was.Reserved, was.KeepWarm); err != nil {
			return err
		}
	}
	if was.KeepWarm > 0 || current.Tags[tagKeepWarm] != "" {
		if err := e.setProvisioned(ctx, "restore", id, was.KeepWarm); err != nil {
			return err
		}
	}
	tags := map[string]string{
		tagFingerprint: was.Fingerprint, tagPackage: was.Package, tagVersion: was.Version, tagOptions: was.Options,
		tagLatest: latestDigest(current.Configuration), tagKeepWarm: strconv.Itoa(int(was.KeepWarm)),
	}
	if prior.PackageSHA256 == "" {
		tags[tagLatest] = "unknown" // it could not be told before either, and has to stay so
	}
	if prior.ColdStart > 0 {
		tags[tagColdStart] = inMilliseconds(prior.ColdStart)
	}
	var obsolete []string
	if was.KeepWarm == 0 {
		delete(tags, tagKeepWarm)
		if current.Tags[tagKeepWarm] != "" {
			obsolete = append(obsolete, tagKeepWarm)
		}
	}
	maps.DeleteFunc(tags, func(_, value string) bool { return value == "" })
	return e.tag(ctx, current, tags, obsolete)
}

// restoreLatest gives $LATEST the configuration of a version, and its code where the unit has it.
func (e *Executor) restoreLatest(ctx context.Context, id string, u faas.Unit, current *lambda.GetFunctionOutput, version *types.FunctionConfiguration) (*lambda.GetFunctionOutput, error) {
	latest := current.Configuration
	sum := aws.ToString(version.CodeSha256)
	if aws.ToString(latest.CodeSha256) != sum && u.Package != nil && codeSHA256(u.Package.SHA256()) == sum && u.Package.Size() <= e.direct {
		zip, err := readPackage(u.Package)
		if err != nil {
			return nil, fmt.Errorf("the package cannot be read: %w", err)
		}
		if err := e.change(ctx, id, func(ctx context.Context) error {
			_, err := e.lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &id, ZipFile: zip, Architectures: version.Architectures})
			return err
		}); err != nil {
			return nil, err
		}
		if current, err = e.settled(ctx, "restore", e.jobOf(id), id, "", func(f *types.FunctionConfiguration) bool { return aws.ToString(f.CodeSha256) == sum }); err != nil {
			return nil, err
		}
	}
	was := settingsOf(version)
	if version.Environment != nil && version.Environment.Error != nil {
		return current, nil // what cannot be read cannot be written; the version that answers has it
	}
	in := was.changes(id, current.Configuration)
	if in == nil {
		return current, nil
	}
	if err := e.change(ctx, id, func(ctx context.Context) error { _, err := e.lambda.UpdateFunctionConfiguration(ctx, in); return err }); err != nil {
		return nil, withoutValues(classify("restore", e.jobOf(id), err), was.Env)
	}
	return e.settled(ctx, "restore", e.jobOf(id), id, "", was.agrees)
}

// rebuild makes the unit anew, which takes its package.
func (e *Executor) rebuild(ctx context.Context, u faas.Unit, prior faas.State, why string) error {
	if u.Package == nil || len(u.Functions) == 0 || (prior.PackageSHA256 != "" && u.Package.SHA256() != prior.PackageSHA256) {
		return faas.Errorf(faas.ErrUnsupported, "restore", faas.AWSLambda, "function %s cannot be put back without its package: %s", prior.ID, why)
	}
	_, err := e.Converge(ctx, u, &prior, nil)
	return err
}
