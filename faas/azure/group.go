//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"net/http"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

func (e *Executor) ensureGroup(ctx context.Context) error {
	var g group
	named := e.options.resourceGroup != ""
	// Making it again would give somebody else's group the service's tags.
	err := e.find(ctx, e.ownGroupPath(), groupsAPI, &g, named)
	switch {
	case err == nil && g.Properties != nil && strings.EqualFold(g.Properties.ProvisioningState, "Deleting"):
		if err := e.gone(ctx, e.ownGroupPath(), groupsAPI, e.pace.state); err != nil {
			return err
		}
	case err == nil:
		return e.checkOwned("resource group "+e.names.group, g.Tags, named)
	case !isNotFound(err):
		return err
	}
	return e.call(ctx, http.MethodPut, e.ownGroupPath(), groupsAPI,
		group{resource: resource{Location: e.region, Tags: e.ownerTags()}}, nil)
}

// checkOwned makes sure that a resource with a derived name is the service's. A resource that an
// option names may be anybody's.
func (e *Executor) checkOwned(what string, tags map[string]string, named bool) error {
	if named || e.owns(tags) {
		return nil
	}
	return faas.Errorf(faas.ErrConflict, "deploy", faas.AzureFunctions,
		"%s exists and does not carry the tags of service %q: it belongs to someone else", what, e.service)
}

// removeGroup removes the service's own resource group if nothing of anybody else is in it. Azure
// may still list what was just removed.
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
		e.logger.InfoContext(ctx, "the resource group stays, as there is something else in it", "resource_group",
			e.names.group, "resources", others)
		return nil
	}
	return e.remove(ctx, e.ownGroupPath(), groupsAPI, nil)
}

// removeStrays removes what has the service's tags but another name than now, as after a change of
// the options. It returns how many resources are somebody else's.
func (e *Executor) removeStrays(ctx context.Context, found []resource) (others int, err error) {
	kinds := []struct{ kind, version string }{ // an app before its plan
		{"Microsoft.Web/sites", webAPI}, {"Microsoft.Web/serverfarms", webAPI},
		{"Microsoft.Storage/storageAccounts", storageAPI},
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
