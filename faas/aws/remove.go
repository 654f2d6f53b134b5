//go:build !faas_only || faas_aws

package aws

import (
	"context"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Remove deletes the function with all versions and aliases, its package in S3 and, if the options
// say so, its log group. With the service's last function it removes the role that was created for
// the service. It sends the deletion even if it does not find the function, and removes what
// belongs to the function too.
func (e *Executor) Remove(ctx context.Context, id string) error {
	if !namePattern.MatchString(id) {
		return nil // nothing can exist under such a name
	}
	if err := e.checkAccount(ctx, "remove"); err != nil {
		return ofJob(classify("remove", e.jobOf(id), err), e.jobOf(id))
	}
	out, err := e.owned(ctx, "remove", id)
	if isNotFound(err) {
		if err = e.appears(ctx, id, err); isNotFound(err) {
			if httputil.Sleep(ctx, e.pace.first) { // one look that finds nothing shows nothing
				err = nil
			} else {
				err = &kit.WaitError{What: "removing function " + id, Ended: ctx.Err(), Last: err}
			}
		}
		if err == nil {
			out, err = e.owned(ctx, "remove", id)
		}
	}
	ownRole, stored := e.options.createRole && e.options.roleArn == "", object{}
	if err == nil {
		stored = parseObject(out.Tags[tagObject])
		ownRole = ownRole || isRole(out.Tags[tagRole], e.roleName())
	}
	if err == nil || isNotFound(err) {
		if err = e.delete(ctx, id, out); err == nil {
			e.memory.forget(id)
		}
	}
	if err == nil && stored != (object{}) {
		err = e.deleteObject(ctx, stored)
	}
	if err == nil && e.options.deleteLogs {
		err = e.deleteLogGroup(ctx, id)
	}
	if err == nil && (ownRole || e.storesPackages()) {
		err = e.removeShared(ctx, ownRole)
	}
	if err != nil {
		return ofJob(classify("remove", e.jobOf(id), err), e.jobOf(id))
	}
	return nil
}

// removeShared removes what belongs to the whole service once it has no function left: none in
// Lambda's list, which may lag behind, and none that this executor has seen.
func (e *Executor) removeShared(ctx context.Context, ownRole bool) error {
	names, err := e.names(ctx)
	if err != nil {
		return err
	}
	for _, name := range append(names, e.memory.names()...) {
		switch _, err := e.owned(ctx, "remove", name); faas.CodeOf(err) {
		case faas.ErrNotFound, faas.ErrConflict: // removed since, or somebody else's
		default: // one that is left is enough
			return err
		}
	}
	if e.storesPackages() {
		if err := e.deletePackages(ctx); err != nil {
			return err
		}
	}
	if ownRole {
		return e.deleteRole(ctx)
	}
	return nil
}
