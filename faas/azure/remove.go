//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Remove removes the app, and what was made for it: plan, storage account, role and resource group. Only what carries the service's tags is
// removed, and the resource group only where nothing else is in it.
func (e *Executor) Remove(ctx context.Context, id string) error {
	e.app.forget()
	s, err := e.owned(ctx, "remove", id)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return e.fail(ctx, "remove", faas.NoJob, err)
	}
	if err == nil {
		// Azure would remove the plan with its last app, unless told not to; here that is done below, where it can be waited for.
		if err := e.remove(ctx, e.sitePath(id)+"?deleteEmptyServerFarm=false", webAPI); err != nil {
			return e.left(e.fail(ctx, "remove", faas.NoJob, err), s.ID)
		}
	}
	var g group
	err = e.call(ctx, http.MethodGet, e.ownGroupPath(), groupsAPI, nil, &g)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return e.fail(ctx, "remove", faas.NoJob, err)
	}
	if err := e.removeBase(ctx, s); err != nil {
		return err
	}
	if !e.owns(g.Tags) {
		return nil
	}
	return e.removeGroup(ctx)
}

func (e *Executor) left(err *faas.Error, resources ...string) *faas.Error {
	err.Leftovers = append(err.Leftovers, resources...)
	return err
}

// removeBase removes plan and storage account at the same time. s is the app that was removed, or nil.
func (e *Executor) removeBase(ctx context.Context, s *site) error {
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		errs []error
		left []string
	)
	try := func(path, version string) {
		all.Go(func() {
			if err := e.removeOwn(ctx, path, version, s); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs, left = append(errs, err), append(left, path)
			}
		})
	}
	try(e.planPath(), webAPI)
	try(e.accountPath(), storageAPI)
	all.Wait()
	if len(errs) == 0 {
		return nil
	}
	first := e.fail(ctx, "remove", faas.NoJob, errs[0])
	first.Err = errors.Join(append([]error{first.Err}, e.cleaned(ctx, errs[1:])...)...)
	return e.left(first, left...)
}

func (e *Executor) cleaned(ctx context.Context, errs []error) []error {
	var out []error
	for _, err := range errs {
		out = append(out, e.fail(ctx, "remove", faas.NoJob, err).Err)
	}
	return out
}

// removeOwn removes a resource where it is the service's. Of a storage account that is not, what was made in it is removed.
func (e *Executor) removeOwn(ctx context.Context, path, version string, s *site) error {
	var r resource
	err := e.call(ctx, http.MethodGet, path, version, nil, &r)
	switch {
	case isNotFound(err):
		return nil
	case err != nil:
		return err
	case e.owns(r.Tags):
		return e.remove(ctx, path, version)
	case path != e.accountPath():
		return nil
	}
	if s != nil && s.Identity != nil && s.Identity.PrincipalID != "" && s.Tags[tagAuth] == authIdentity {
		if err := e.call(ctx, http.MethodDelete, e.assignmentPath(s.Identity.PrincipalID), rolesAPI, nil, nil); err != nil && !isNotFound(err) {
			return err
		}
	}
	err = e.call(ctx, http.MethodDelete, e.accountPath("blobServices/default/containers", e.names.container), storageAPI, nil, nil)
	if isNotFound(err) {
		return nil
	}
	return err
}

// removeGroup removes the service's own resource group where nothing of anyone else is in it. Azure may list for a while what was just removed.
func (e *Executor) removeGroup(ctx context.Context) error {
	failed := func(err error) error { return e.left(e.fail(ctx, "remove", faas.NoJob, err), e.groupPath()) }
	w := e.newWait(e.pace.role)
	for {
		found, err := listAll[resource](ctx, e, e.groupPath()+"/resources", groupsAPI)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return failed(err)
		}
		if len(found) == 0 {
			break
		}
		others, err := e.removeStrays(ctx, found)
		if err != nil {
			return failed(err)
		}
		if others > 0 {
			e.logger.InfoContext(ctx, "the resource group stays, as there is something else in it", "resource_group", e.names.group, "resources", others)
			return nil
		}
		if more, perr := w.pause(ctx); perr != nil || !more {
			return failed(errors.Join(perr, w.expired(perr, "resource group %s still lists what was removed from it", e.names.group)))
		}
	}
	if err := e.remove(ctx, e.ownGroupPath(), groupsAPI); err != nil {
		return failed(err)
	}
	return nil
}

// removeStrays removes what carries the service's tags though it has another name than now, as after a change of the options. It returns how many
// resources are someone else's.
func (e *Executor) removeStrays(ctx context.Context, found []resource) (others int, err error) {
	kinds := []struct{ kind, version string }{ // an app before its plan
		{"Microsoft.Web/sites", webAPI}, {"Microsoft.Web/serverfarms", webAPI}, {"Microsoft.Storage/storageAccounts", storageAPI},
	}
	removed := []string{e.sitePath(e.names.app), e.planPath(), e.accountPath()}
	for _, k := range kinds {
		for _, r := range found {
			if strings.EqualFold(r.Type, k.kind) && e.owns(r.Tags) && !containsFold(removed, r.ID) {
				if err := e.remove(ctx, r.ID, k.version); err != nil {
					return 0, err
				}
				removed = append(removed, r.ID)
			}
		}
	}
	for _, r := range found {
		if !containsFold(removed, r.ID) {
			others++
		}
	}
	return others, nil
}

func containsFold(list []string, id string) bool {
	for _, item := range list {
		if strings.EqualFold(item, id) {
			return true
		}
	}
	return false
}
