//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"net/http"
	"strings"
)

func (e *Executor) ensurePlan(ctx context.Context, p *plan) error {
	state := func() string { return p.Properties.ProvisioningState }
	err := e.find(ctx, e.planPath(), webAPI, p, false)
	if err == nil && isPending(state()) {
		err = e.settled(ctx, e.planPath(), webAPI, p, state)
	}
	if err == nil {
		err = e.checkOwned("plan "+e.names.plan, p.Tags, false)
		if err != nil || !strings.EqualFold(state(), "Failed") {
			return err
		}
	} else if !isNotFound(err) {
		return err
	}
	wanted := plan{
		resource:   resource{Location: e.region, Kind: "functionapp", Tags: e.ownerTags()},
		SKU:        &sku{Name: "FC1", Tier: "FlexConsumption"},
		Properties: planProperties{Reserved: true},
	}
	if err := e.operate(ctx, http.MethodPut, e.planPath(), webAPI, wanted, p); err != nil {
		return err
	}
	if p.ID == "" || isPending(state()) {
		return e.settled(ctx, e.planPath(), webAPI, p, state)
	}
	return nil
}

// removePlan removes the plan, whose name is always one of the service's own. While Azure says that
// the plan has an app, removePlan removes the app again: an earlier read may have been wrong.
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
