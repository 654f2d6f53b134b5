//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Remove removes the app, and what was made for it: plan, storage account, role and resource group. Only what carries the service's tags is
// removed, and the resource group only where nothing else is in it. Each of them is deleted by its own name, whatever a look says of it
// or of what it is in; and in this order, so that the storage of an app that still runs is never touched.
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

// removeSite removes the app. Azure would remove the plan with its last app, unless told not to; here
// that is done apart, so that it can be waited for.
func (e *Executor) removeSite(ctx context.Context, id string) error {
	return e.remove(ctx, e.sitePath(id)+"?deleteEmptyServerFarm=false", webAPI, nil)
}

// removePlan removes the plan, whose name is always one of the service's own. While Azure says that an
// app is on it, the app is removed again: an earlier look may have been wrong.
func (e *Executor) removePlan(ctx context.Context, id string) error {
	var r resource
	err := e.find(ctx, e.planPath(), webAPI, &r, false)
	switch {
	case err == nil && !e.owns(r.Tags):
		return nil
	case err != nil && !isNotFound(err):
		return err
	}
	return e.remove(ctx, e.planPath(), webAPI, func(ctx context.Context) error { return e.removeSite(ctx, id) })
}

// removeStorage removes the storage account where it is the service's, and else what was made in it. s
// is the app that was removed, or nil.
func (e *Executor) removeStorage(ctx context.Context, id string, s *site) error {
	last := e.wait(e.pace.busy, "app %s is there again, so its storage stays", id)
	if err := last.Until(ctx, func(ctx context.Context) error {
		_, err := e.getSite(ctx, id)
		if isNotFound(err) {
			return nil
		}
		if err == nil {
			err = e.removeSite(ctx, id)
		}
		return cmp.Or(err, kit.NotYet(0, "it was removed again"))
	}); err != nil {
		return err
	}
	named := e.options.storageAccount != ""
	var r resource
	err := e.find(ctx, e.accountPath(), storageAPI, &r, named)
	switch {
	case err != nil && !isNotFound(err):
		return err
	case err == nil && e.owns(r.Tags), err != nil && !named:
		return e.remove(ctx, e.accountPath(), storageAPI, nil)
	}
	if err := e.revoke(ctx, s); err != nil {
		return err
	}
	return e.remove(ctx, e.accountPath("blobServices/default/containers", e.names.container), storageAPI, nil)
}

// revoke takes the roles back that the app's identity was given on a storage account that stays. If the
// app was not seen, they are found by their names, which are made of the identities that have them.
func (e *Executor) revoke(ctx context.Context, s *site) error {
	var roles []string
	if s != nil && s.Identity != nil && s.Identity.PrincipalID != "" {
		if s.Tags[tagAuth] == authIdentity {
			roles = append(roles, e.assignmentPath(s.Identity.PrincipalID))
		}
	} else {
		all, err := listAll[roleAssignment](ctx, e, e.accountPath("providers/Microsoft.Authorization/roleAssignments")+"?$filter=atScope()", rolesAPI)
		if err != nil && !isNotFound(err) && statusOf(err) != http.StatusForbidden {
			return err
		}
		for _, a := range all {
			if path := e.assignmentPath(a.Properties.PrincipalID); strings.EqualFold(a.ID, path) {
				roles = append(roles, path)
			}
		}
	}
	for _, path := range roles {
		if err := e.call(ctx, http.MethodDelete, path, rolesAPI, nil, nil); err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}

// removeGroup removes the service's own resource group where nothing of anyone else is in it. Azure may list for a while what was just removed.
func (e *Executor) removeGroup(ctx context.Context) error {
	var g group
	err := e.find(ctx, e.ownGroupPath(), groupsAPI, &g, true)
	switch {
	case isNotFound(err), err == nil && !e.owns(g.Tags):
		return nil
	case err != nil:
		return err
	}
	others := 0
	w := e.wait(e.pace.state, "resource group %s still lists what was removed from it", e.names.group)
	w.Absent = e.pace.settle
	err = w.Until(ctx, func(ctx context.Context) error {
		found, err := listAll[resource](ctx, e, e.groupPath()+"/resources", groupsAPI)
		if err == nil {
			others, err = e.removeStrays(ctx, found)
		}
		if err == nil && len(found) > 0 && others == 0 {
			return kit.NotYet(0, "it lists %d resources", len(found))
		}
		return err
	})
	switch {
	case isNotFound(err) && isNotFound(e.find(ctx, e.ownGroupPath(), groupsAPI, nil, true)):
		return nil
	case err != nil:
		return err // the group is not deleted with what nobody has seen
	case others > 0:
		e.logger.InfoContext(ctx, "the resource group stays, as there is something else in it", "resource_group", e.names.group, "resources", others)
		return nil
	}
	return e.remove(ctx, e.ownGroupPath(), groupsAPI, nil)
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
				if err := e.remove(ctx, r.ID, k.version, nil); err != nil {
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
