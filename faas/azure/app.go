//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Observe reads the app. Its tags describe it.
func (e *Executor) Observe(ctx context.Context, id string) (faas.State, error) {
	s, err := e.owned(ctx, "observe", id)
	if err != nil {
		return faas.State{}, e.fail(ctx, "observe", faas.NoJob, err)
	}
	return e.state(s), nil
}

// CheckPlace returns an ErrConflict if the app of a recorded state is in another subscription than
// the executor's.
func (e *Executor) CheckPlace(_ context.Context, recorded faas.State) error {
	parts := strings.Split(recorded.Resource, "/") // /subscriptions/ID/...
	if len(parts) < 3 || !strings.EqualFold(parts[1], "subscriptions") || strings.EqualFold(parts[2], e.subscription) {
		return nil
	}
	return faas.Errorf(faas.ErrConflict, "open", faas.AzureFunctions,
		"app %s is in subscription %s, and this is subscription %s, where nothing of it would be found", recorded.ID,
		parts[2], e.subscription)
}

// List returns the apps in the resource group that have the service's tags.
func (e *Executor) List(ctx context.Context) ([]faas.State, error) {
	var sites []site
	missing := 0
	w := e.wait(e.pace.busy, "the apps of resource group %s could not be listed", e.names.group)
	w.Patience = soon
	err := w.Until(ctx, func(ctx context.Context) (err error) {
		sites, err = listAll[site](ctx, e, e.path("providers/Microsoft.Web/sites"), webAPI)
		if !isNotFound(err) {
			return err
		}
		if missing++; missing < proofs { // not even the resource group is there, if that is said several times
			return kit.NotYet(0, "%w", err)
		}
		return nil
	})
	if err != nil {
		return nil, e.fail(ctx, "list", faas.NoJob, err)
	}
	var states []faas.State
	for i := range sites {
		if e.owns(sites[i].Tags) {
			states = append(states, e.state(&sites[i]))
		}
	}
	slices.SortFunc(states, func(a, b faas.State) int { return cmp.Compare(a.ID, b.ID) })
	return states, nil
}

// Converge makes the app and what it depends on, publishes the package and waits until the
// functions answer. It changes nothing that is right already: a change of the configuration uploads
// nothing. While it works, the app's tags say that it is not finished; the old functions answer
// until Azure has restarted the app with the new ones.
func (e *Executor) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	c, err := e.newConvergence(u, report)
	if err != nil {
		return faas.State{}, err
	}
	defer c.stop()
	s, err := c.run(ctx, prior)
	if err != nil {
		failed := e.fail(ctx, "deploy", faas.NoJob, c.explain(ctx, err), values(u)...)
		failed.Resumable = c.isLate(ctx)
		return faas.State{Existed: c.existed}, failed
	}
	s.Existed = c.existed
	return s, nil
}

// values returns the values of a unit's environment. Errors must hide them, since Azure may repeat
// what it was sent.
func values(u faas.Unit) []string {
	var all []string
	for _, f := range u.Functions {
		all = append(all, f.Env.Values()...)
	}
	return all
}

// Restore gives the app its former configuration, settings and package. It publishes the package
// again if another one may have replaced it. Azure keeps neither package nor settings, and the
// settings are secrets that no State may hold, so the executor keeps both in memory when it changes
// the app.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	err := e.restore(ctx, prior)
	if err == nil {
		return nil
	}
	var hidden []string
	if before := e.memory.of(prior); before != nil {
		hidden = before.design.settings.Values()
	}
	return e.fail(ctx, "restore", faas.NoJob, err, hidden...)
}

func (e *Executor) restore(ctx context.Context, prior faas.State) error {
	now, err := e.known(ctx, "restore", prior.ID)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	before := e.memory.of(prior)
	switch {
	// A replica that lags may show the former state of an app that was changed.
	case err == nil && isSame(e.state(now), prior) && (before == nil || !before.touched):
		return nil
	case before != nil && (!before.replaced || before.kept != nil || before.stays):
		return e.reset(ctx, before, now == nil)
	case prior.NotRestorable != "":
		return faas.Errorf(faas.ErrUnsupported, "restore", faas.AzureFunctions,
			"app %s was changed and cannot be put back: %s", prior.ID, prior.NotRestorable)
	}
	return faas.Errorf(faas.ErrConflict, "restore", faas.AzureFunctions,
		"app %s was changed by somebody else, so that its former settings and package are not known here; deploy it again",
		prior.ID)
}

// isSame reports whether an app is as it was. It reports false if that cannot be told.
func isSame(now, prior faas.State) bool {
	return now.Status == prior.Status && now.PackageSHA256 == prior.PackageSHA256 &&
		now.Fingerprint == prior.Fingerprint && now.PackageSHA256 != ""
}

// Remove removes the app and what was made for it: plan, storage account, role and resource group.
// It removes only what has the service's tags, and the resource group only if nothing else is in
// it. It deletes each by its own name, whatever a read says about it or about what contains it, and
// in this order, so that the storage of a running app is never touched.
func (e *Executor) Remove(ctx context.Context, id string) error {
	e.forgetApp()
	failed := func(err error, left ...string) error {
		out := e.fail(ctx, "remove", faas.NoJob, err)
		out.Leftovers = append(out.Leftovers, left...)
		if out.Code == faas.ErrNotFound { // of something else: that the unit is gone would be success
			out.Code = faas.ErrUnavailable
		}
		return out
	}
	s, err := e.owned(ctx, "remove", id)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return failed(err)
	}
	if err := e.removeSite(ctx, id); err != nil {
		return failed(err, e.sitePath(id))
	}
	if err := e.removePlan(ctx, id); err != nil {
		return failed(err, e.planPath(), e.accountPath())
	}
	if err := e.removeStorage(ctx, id, s); err != nil {
		return failed(err, e.accountPath())
	}
	if err := e.removeGroup(ctx); err != nil {
		return failed(err, e.groupPath())
	}
	return nil
}
