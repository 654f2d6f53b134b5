//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Converge makes the app and what it stands on, publishes the package and waits until the functions answer. What is right already is left alone: a
// change of the configuration uploads nothing. While it works, the app's tags say that it is not finished; the old functions answer until Azure has restarted
// the app with the new ones.
func (e *Executor) Converge(ctx context.Context, u faas.Unit, _ *faas.State, report func(faas.Progress)) (faas.State, error) {
	c, err := e.newConvergence(u, report)
	if err != nil {
		return faas.State{}, err
	}
	defer c.stop()
	s, err := c.run(ctx)
	if err != nil {
		return faas.State{}, e.fail(ctx, "deploy", faas.NoJob, err, values(u)...)
	}
	return s, nil
}

// values returns the values of a unit's environment, for errors to hide them: Azure may repeat in an error what it was sent.
func values(u faas.Unit) []string {
	var all []string
	for _, f := range u.Functions {
		for _, v := range f.Env.Values() {
			all = append(all, v)
		}
	}
	return all
}

// convergence is one call of Converge.
type convergence struct {
	*Executor
	unit faas.Unit

	mu       sync.Mutex
	reporter func(faas.Progress) // nil once the call has ended
}

func (e *Executor) newConvergence(u faas.Unit, report func(faas.Progress)) (*convergence, error) {
	refuse := func(code faas.Code, format string, args ...any) error {
		return faas.Errorf(code, "deploy", faas.AzureFunctions, format, args...)
	}
	switch {
	case u.ID != e.names.app:
		return nil, refuse(faas.ErrConflict, "unit %q is none of service %q, whose app is called %s", u.ID, e.service, e.names.app)
	case u.Package == nil:
		return nil, refuse(faas.ErrInvalidArgument, "unit %s has no package", u.ID)
	case len(u.Functions) == 0:
		return nil, refuse(faas.ErrInvalidArgument, "unit %s has no functions", u.ID)
	}
	for _, f := range u.Functions {
		if err := e.checkFunction(f); err != nil {
			return nil, err
		}
	}
	return &convergence{Executor: e, unit: u, reporter: report}, nil
}

func (c *convergence) report(p faas.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reporter != nil {
		p.TotalBytes = c.unit.Package.Size()
		c.reporter(p)
	}
}

// stop makes sure that nobody is told anything after Converge has returned, even if a transport still reads.
func (c *convergence) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reporter = nil
}

func (c *convergence) run(ctx context.Context) (faas.State, error) {
	now, err := c.owned(ctx, "deploy", c.unit.ID)
	switch {
	case err == nil:
		s := c.state(now)
		if s.Current(c.unit) {
			return s, nil
		}
		if err := c.remember(ctx, s, now); err != nil {
			return faas.State{}, err
		}
	case faas.CodeOf(err) != faas.ErrNotFound:
		return faas.State{}, err
	}
	defer c.app.forget() // jobs and keys may be others from now on
	b, err := c.ensureBase(ctx, c.report)
	if err != nil {
		return faas.State{}, err
	}
	tags := c.interimTags(now, b)
	made, d, err := c.makeSite(ctx, b, tags)
	if err != nil {
		return faas.State{}, err
	}
	if tags[tagPublished] == "" {
		if err := c.publish(ctx, made); err != nil {
			return faas.State{}, err
		}
		tags[tagPublished] = c.unit.Package.SHA256()
	}
	if err := c.ready(ctx, made); err != nil {
		return faas.State{}, err
	}
	return c.finish(ctx, d, tags)
}

// interimTags are those of the app until the deployment is done. now is the app as it is, or nil.
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

// remember keeps what the app is for Restore. What an unfinished deployment left is not worth it, and does not replace what was there before it.
func (c *convergence) remember(ctx context.Context, s faas.State, now *site) error {
	if s.Status != faas.StatusReady || now.Properties.AppConfig == nil {
		return nil
	}
	settings, err := c.settings(ctx, c.unit.ID)
	if err != nil {
		return err
	}
	p := now.Properties
	c.memory.keep(c.unit.ID, &snapshot{state: s, tags: now.Tags, design: design{
		location: now.Location, planID: cmp.Or(p.ServerFarmID, c.planPath()), scale: p.AppConfig.Scale, storage: p.AppConfig.Deployment.Storage, settings: settings,
	}})
	return nil
}

// makeSite makes the app, its way to the storage and its settings. It completes the tags.
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
			return made, d, nil
		}
		if c.options.storageAuth == authIdentity || !isRefusal(err) {
			return nil, d, err
		}
		c.logger.WarnContext(ctx, "the app's identity cannot be given a role on its storage account, so the app gets a connection string",
			"app", c.unit.ID, "error", c.fail(ctx, "deploy", faas.NoJob, err).Error())
	}
	connection, err := c.connectionString(ctx, b.account)
	if err != nil {
		return nil, design{}, err
	}
	tags[tagAuth] = authKey
	return c.makeWith(ctx, b, connection, tags)
}

func (c *convergence) makeWith(ctx context.Context, b *base, connection string, tags map[string]string) (*site, design, error) {
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
		if err := c.call(ctx, http.MethodPost, c.sitePath(c.unit.ID, "start"), webAPI, nil, nil); err != nil {
			return nil, d, err
		}
	}
	return made, d, nil
}

func (c *convergence) grantTo(ctx context.Context, s *site) error {
	if s.Identity == nil || s.Identity.PrincipalID == "" {
		return faas.Errorf(faas.ErrUnsupported, "deploy", faas.AzureFunctions, "Azure gave app %s no identity", s.Name)
	}
	return c.grant(ctx, s.Identity.PrincipalID)
}

// isRefusal reports whether Azure, or the rights of the caller, do not allow something, so that trying again is in vain.
func isRefusal(err error) bool {
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return faas.CodeOf(err) == faas.ErrUnsupported
}

// finish writes down what the app is now, and makes sure that it still answers.
func (c *convergence) finish(ctx context.Context, d design, tags map[string]string) (faas.State, error) {
	c.report(faas.Progress{Step: "record"})
	tags = maps.Clone(tags)
	tags[tagPackage], tags[tagFingerprint], tags[tagOptions] = c.unit.Package.SHA256(), c.unit.Fingerprint(), c.options.digest()
	tags[tagDeployed] = time.Now().UTC().Format(time.RFC3339Nano)
	delete(tags, tagJobs)
	if jobs := formatJobs(c.unit.Functions); jobs != "" {
		tags[tagJobs] = jobs
	}
	made, err := c.putSite(ctx, c.unit.ID, d.body(tags))
	if err != nil {
		return faas.State{}, err
	}
	if made.Tags[tagFingerprint] != tags[tagFingerprint] {
		if made, err = c.getSite(ctx, c.unit.ID); err != nil {
			return faas.State{}, err
		}
	}
	c.app.forget()
	if err := c.answers(ctx, made, c.unit.Functions[0].JobID); err != nil {
		return faas.State{}, err
	}
	return c.state(made), nil
}
