//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// convergence is the state of one call of Converge or Restore.
type convergence struct {
	*Executor
	id   string
	jobs []uint32  // that the app's package has functions for
	unit faas.Unit // empty for a Restore
	// existed says that the app was found although Converge was told that nothing existed, and that
	// this executor has not made it.
	existed bool
	// fresh says that this call has given the app's identity its role, and that the app has no
	// functions yet. late is the last refusal because the role had no effect yet, and nil once it has.
	fresh bool
	late  error

	mu       sync.Mutex
	reporter func(faas.Progress) // nil once the call has ended
}

func (e *Executor) newConvergence(u faas.Unit, report func(faas.Progress)) (*convergence, error) {
	refuse := func(code faas.Code, format string, args ...any) error {
		return faas.Errorf(code, "deploy", faas.AzureFunctions, format, args...)
	}
	switch {
	case u.ID != e.names.app:
		return nil, refuse(faas.ErrConflict, "unit %q is none of service %q, whose app is called %s", u.ID, e.service,
			e.names.app)
	case u.Package == nil:
		return nil, refuse(faas.ErrInvalidArgument, "unit %s has no package", u.ID)
	case len(u.Functions) == 0:
		return nil, refuse(faas.ErrInvalidArgument, "unit %s has no functions", u.ID)
	}
	c := &convergence{Executor: e, id: u.ID, unit: u, reporter: report}
	functions, err := functionRules.Check(u.Functions)
	if err != nil {
		return nil, err
	}
	for _, f := range functions {
		c.jobs = append(c.jobs, f.JobID)
	}
	return c, nil
}

func (c *convergence) report(p faas.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reporter != nil {
		p.TotalBytes = c.unit.Package.Size()
		c.reporter(p)
	}
}

// stop makes sure that report is not called after Converge has returned, even if a transport still
// reads.
func (c *convergence) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reporter = nil
}

// run does the work. prior is the state of the app a moment ago, or nil.
func (c *convergence) run(ctx context.Context, prior *faas.State) (faas.State, error) {
	now, err := c.lookAgain(ctx, prior)
	switch {
	case err == nil:
		c.existed = prior == nil && !c.memory.isMade(c.id)
		if s := c.state(now); s.Current(c.unit) {
			return s, nil
		}
	case faas.CodeOf(err) != faas.ErrNotFound:
		return faas.State{}, err
	}
	defer c.forgetApp() // jobs and keys may be others from now on
	b, err := c.ensureBase(ctx, c.report)
	if err != nil {
		return faas.State{}, err
	}
	tags := c.interimTags(now, b)
	if now != nil {
		if err := c.remember(ctx, now, b, tags[tagPublished] == ""); err != nil {
			return faas.State{}, err
		}
	}
	if now == nil {
		c.memory.make(c.id)
	}
	made, d, err := c.makeSite(ctx, b, tags)
	if err != nil {
		return faas.State{}, err
	}
	if tags[tagPublished] == "" {
		if err := c.publish(ctx, made, c.unit.Package); err != nil {
			return faas.State{}, err
		}
		tags[tagPublished] = c.unit.Package.SHA256()
	}
	if err := c.ready(ctx, made); err != nil {
		return faas.State{}, err
	}
	return c.finish(ctx, d, tags, c.packageAccess(ctx, b.container))
}

// lookAgain reads the app. A single 404 must not make Converge create the app anew, without its
// settings and with nothing to restore; and a replica that lags must not pass a state from before
// prior for the present one.
func (c *convergence) lookAgain(ctx context.Context, prior *faas.State) (*site, error) {
	if prior == nil { // from one look, which may have been at a replica that lags
		return c.known(ctx, "deploy", c.id)
	}
	var now *site
	looks := 0
	w := c.wait(c.pace.busy, "app %s could not be read", c.id)
	w.Patience = soon
	err := w.Until(ctx, func(ctx context.Context) (err error) {
		if now, err = c.known(ctx, "deploy", c.id); err != nil {
			return err
		}
		if looks++; looks < proofs && c.state(now).DeployedAt.Before(prior.DeployedAt) {
			return kit.NotYet(0, "it is shown as it was before it was last looked at")
		}
		return nil
	})
	return now, err
}

// interimTags returns the tags of the app until the deployment is done. now is the app as it is, or
// nil.
func (c *convergence) interimTags(now *site, b *base) map[string]string {
	tags := c.ownerTags()
	if now == nil {
		return tags
	}
	kept := []string{tagJobs} // the functions that answer meanwhile
	if config := now.Properties.AppConfig; config != nil && config.Deployment.Storage.Value == b.container {
		kept = append(kept, tagAuth)
		if now.Tags[tagPublished] == c.unit.Package.SHA256() {
			kept = append(kept, tagPublished)
		}
	}
	for _, name := range kept {
		if v := now.Tags[name]; v != "" {
			tags[name] = v
		}
	}
	return tags
}

// remember keeps for Restore what the app is: the settings, and the package if another one replaces
// it. What an unfinished deployment left does not replace an earlier snapshot.
func (c *convergence) remember(ctx context.Context, now *site, b *base, replaces bool) error {
	s := c.state(now)
	if s.Status != faas.StatusReady || now.Properties.AppConfig == nil {
		return nil
	}
	settings, err := c.settings(ctx, c.id)
	if err != nil {
		return err
	}
	p := now.Properties
	before := &snapshot{state: s, tags: now.Tags, design: design{
		location: now.Location, planID: cmp.Or(p.ServerFarmID, c.planPath()), scale: p.AppConfig.Scale,
		storage: p.AppConfig.Deployment.Storage, settings: settings,
	}}
	switch {
	case before.design.storage.Value != b.container:
		before.stays = true // where it is, as the new package goes into another container
	case replaces && s.NotRestorable == "":
		c.report(faas.Progress{Step: "keep package"})
		if before.kept, err = c.keepPackage(ctx, b.container, now.Tags[tagAccess]); err != nil {
			return c.cannotKeep(ctx, before, err)
		}
	}
	return c.memory.keep(c.id, before)
}

// cannotKeep returns the error for a former package that cannot be read, although the last
// deployment recorded that it could. Nothing was changed yet. If the reason does not pass by
// itself, cannotKeep records it in the app's tags, so that the next deployment says beforehand that
// it cannot restore the app, and goes on.
func (c *convergence) cannotKeep(ctx context.Context, before *snapshot, err error) error {
	means := meaning(ctx, err)
	if means.Class.Passes() || ctx.Err() != nil {
		return faas.Errorf(means.Code, "deploy", faas.AzureFunctions,
			"nothing was changed, as the app's former package could not be kept: %w", err)
	}
	tags := maps.Clone(before.tags)
	tags[tagAccess] = accessNone + sanitize.Line(c.brief(err), maxTagValue-len(accessNone)-len("..."))
	if _, noted := c.putSite(ctx, c.id, before.design.body(tags)); noted != nil {
		err = errors.Join(err, noted)
	}
	return faas.Errorf(means.Code, "deploy", faas.AzureFunctions, "nothing was changed, as the app's former package "+
		"can no longer be read, and the app could not be put back if the deployment failed: "+
		"give the caller the role Storage Blob Data Reader on storage account %s, or deploy again to go on without: %w",
		c.names.account, err)
}

// makeSite makes the app, its access to the storage and its settings. It completes the tags.
func (c *convergence) makeSite(ctx context.Context, b *base, tags map[string]string) (*site, design, error) {
	byKey := c.options.storageAuth == authKey || c.options.storageAuth == authAuto && tags[tagAuth] == authKey
	if !byKey {
		made, d, err := c.makeWith(ctx, b, "", tags)
		if err != nil || tags[tagAuth] == authIdentity {
			return made, d, err
		}
		c.report(faas.Progress{Step: "role"})
		err = c.grantTo(ctx, made)
		if err == nil {
			tags[tagAuth] = authIdentity
			c.fresh = tags[tagJobs] == ""
			return made, d, nil
		}
		if c.options.storageAuth == authIdentity || !isRefusal(err) {
			return nil, d, err
		}
		c.logger.WarnContext(ctx, "the app's identity cannot be given a role on its storage account, so the app gets a "+
			"connection string",
			"app", c.unit.ID, "error", c.fail(ctx, "deploy", faas.NoJob, err).Error())
	}
	connection, err := c.connectionString(ctx, b.account)
	if err != nil {
		return nil, design{}, err
	}
	tags[tagAuth] = authKey
	return c.makeWith(ctx, b, connection, tags)
}

func (c *convergence) makeWith(ctx context.Context, b *base, connection string, tags map[string]string) (*site, design,
	error) {
	c.report(faas.Progress{Step: "app"})
	d := c.newDesign(c.unit, b, connection)
	made, err := c.putSite(ctx, c.unit.ID, d.body(tags))
	if err != nil {
		return nil, d, err
	}
	c.report(faas.Progress{Step: "settings"})
	if err := c.setSettings(ctx, c.unit.ID, d.settings); err != nil {
		return nil, d, err
	}
	if s := made.Properties.State; s != "" && !strings.EqualFold(s, "Running") {
		if err := c.must(ctx, http.MethodPost, c.sitePath(c.unit.ID, "start"), webAPI, nil, nil); err != nil {
			return nil, d, err
		}
	}
	return made, d, nil
}

// isRefusal reports whether Azure, or the caller's rights, do not allow something, so that a retry
// is useless. A 404 is not a refusal: Azure answers it for an app that is not known everywhere yet.
func isRefusal(err error) bool {
	var vain *kit.WaitError
	if errors.As(err, &vain) {
		return false
	}
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return faas.CodeOf(err) == faas.ErrUnsupported
}

// finish records what the app is now, and makes sure that it still answers.
func (c *convergence) finish(ctx context.Context, d design, tags map[string]string, access string) (faas.State, error) {
	c.report(faas.Progress{Step: "record"})
	tags = maps.Clone(tags)
	tags[tagAccess] = access
	tags[tagPackage], tags[tagFingerprint], tags[tagOptions] = c.unit.Package.SHA256(), c.unit.Fingerprint(),
		c.options.digest()
	tags[tagDeployed] = time.Now().UTC().Format(time.RFC3339Nano)
	if c.unit.Compact {
		tags[tagPayload] = payloads.Mark(c.unit.Package.SHA256())
	}
	delete(tags, tagJobs)
	if jobs := formatJobs(c.unit.Functions); jobs != "" {
		tags[tagJobs] = jobs
	}
	made, err := c.putSite(ctx, c.unit.ID, d.body(tags))
	if err != nil {
		return faas.State{}, err
	}
	// The last read may be of a replica that lags.
	w := c.wait(c.pace.appear, "app %s was deployed, and Azure does not show it so: somebody else may have changed it",
		c.id)
	if err := w.Until(ctx, func(ctx context.Context) error {
		if made.Tags[tagDeployed] == tags[tagDeployed] {
			return nil
		}
		now, err := c.known(ctx, "deploy", c.id)
		if err != nil {
			return err
		}
		if made = now; made.Tags[tagDeployed] != tags[tagDeployed] {
			return kit.NotYet(0, "it is shown as of %q", sanitize.Line(made.Tags[tagDeployed], 40))
		}
		return nil
	}); err != nil {
		return faas.State{}, err
	}
	c.forgetApp()
	if err := c.answers(ctx, made, c.jobs[0]); err != nil {
		return faas.State{}, err
	}
	return c.state(made), nil
}
