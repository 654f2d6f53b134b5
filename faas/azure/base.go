//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// base is what an app stands on.
type base struct {
	account   account
	plan      plan
	container string // URL of the package container
}

// ensureBase makes resource group, plan, storage account and container exist: what is there is only read. Plan and storage do not wait for each other.
func (e *Executor) ensureBase(ctx context.Context, report func(faas.Progress)) (*base, error) {
	report(faas.Progress{Step: "resource group"})
	if err := e.ensureGroup(ctx); err != nil {
		return nil, err
	}
	report(faas.Progress{Step: "storage and plan"})
	b := &base{}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return e.ensurePlan(ctx, &b.plan) })
	all.Go(func() error { return e.ensureStorage(ctx, b) })
	if err := all.Wait(); err != nil {
		return nil, err
	}
	return b, nil
}

func (e *Executor) ensureGroup(ctx context.Context) error {
	var g group
	named := e.options.resourceGroup != ""
	// Making it again would give someone else's group the service's tags.
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
	return e.call(ctx, http.MethodPut, e.ownGroupPath(), groupsAPI, group{resource: resource{Location: e.region, Tags: e.ownerTags()}}, nil)
}

// checkOwned makes sure that a resource with a derived name is the service's. What an option names may be anyone's.
func (e *Executor) checkOwned(what string, tags map[string]string, named bool) error {
	if named || e.owns(tags) {
		return nil
	}
	return faas.Errorf(faas.ErrConflict, "deploy", faas.AzureFunctions, "%s exists and does not carry the tags of service %q: it belongs to someone else", what, e.service)
}

func (e *Executor) ensurePlan(ctx context.Context, p *plan) error {
	state := func() string { return p.Properties.ProvisioningState }
	err := e.find(ctx, e.planPath(), webAPI, p, false)
	if err == nil && isPending(state()) {
		err = e.settled(ctx, e.planPath(), webAPI, p, state)
	}
	if err == nil && !strings.EqualFold(p.Properties.ProvisioningState, "Failed") {
		return e.checkOwned("plan "+e.names.plan, p.Tags, false)
	}
	if err != nil && !isNotFound(err) {
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

func (e *Executor) ensureStorage(ctx context.Context, b *base) error {
	if err := e.ensureAccount(ctx, &b.account); err != nil {
		return err
	}
	ends := b.account.Properties.PrimaryEndpoints
	if ends == nil || ends.Blob == "" {
		return faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions, "storage account %s names no blob endpoint", e.names.account)
	}
	b.container = strings.TrimRight(ends.Blob, "/") + "/" + e.names.container
	path := e.accountPath("blobServices/default/containers", e.names.container)
	if err := e.call(ctx, http.MethodGet, path, storageAPI, nil, nil); err == nil || ctx.Err() != nil {
		return err
	}
	var c container
	c.Properties.PublicAccess = "None"
	return e.must(ctx, http.MethodPut, path, storageAPI, c, nil)
}

func (e *Executor) ensureAccount(ctx context.Context, a *account) error {
	state := func() string { return a.Properties.ProvisioningState }
	err := e.find(ctx, e.accountPath(), storageAPI, a, e.options.storageAccount != "")
	if err == nil && isPending(state()) {
		err = e.settled(ctx, e.accountPath(), storageAPI, a, state)
	}
	if err == nil {
		return e.checkOwned("storage account "+e.names.account, a.Tags, e.options.storageAccount != "")
	}
	if !isNotFound(err) {
		return err
	}
	yes, no := true, false
	wanted := account{
		resource:   resource{Location: e.region, Kind: "StorageV2", Tags: e.ownerTags()},
		SKU:        &sku{Name: "Standard_LRS"},
		Properties: accountProperties{MinimumTLS: "TLS1_2", HTTPSOnly: &yes, PublicBlobs: &no},
	}
	if e.options.storageAuth == authIdentity {
		wanted.Properties.SharedKeys = &no
	}
	if err := e.operate(ctx, http.MethodPut, e.accountPath(), storageAPI, wanted, a); err != nil {
		if judge(err).Class == kit.Exists {
			return faas.Errorf(faas.ErrAlreadyExists, "deploy", faas.AzureFunctions,
				`the name of storage account %s is taken elsewhere in Azure: set the option "storage_account" to a free name: %w`, e.names.account, err)
		}
		return err
	}
	if a.Properties.PrimaryEndpoints == nil || isPending(state()) {
		return e.settled(ctx, e.accountPath(), storageAPI, a, state)
	}
	return nil
}

// connectionString returns the connection string of the account, which is a secret.
func (e *Executor) connectionString(ctx context.Context, a account) (string, error) {
	key, err := e.accountKey(ctx)
	if err != nil {
		return "", err
	}
	text := "DefaultEndpointsProtocol=https;AccountName=" + e.names.account + ";AccountKey=" + key
	ends := a.Properties.PrimaryEndpoints
	for _, service := range []struct{ name, url string }{{"Blob", ends.Blob}, {"Queue", ends.Queue}, {"Table", ends.Table}} {
		if service.url != "" {
			text += ";" + service.name + "Endpoint=" + service.url
		}
	}
	e.secrets.Add(text)
	return text, nil
}

// accountKey returns a key of the storage account, which is a secret.
func (e *Executor) accountKey(ctx context.Context) (string, error) {
	var keys accountKeys
	if err := e.must(ctx, http.MethodPost, e.accountPath("listKeys"), storageAPI, nil, &keys); err != nil {
		return "", err
	}
	if len(keys.Keys) == 0 || keys.Keys[0].Value == "" {
		return "", faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions, "storage account %s has no key", e.names.account)
	}
	e.secrets.Add(keys.Keys[0].Value)
	return keys.Keys[0].Value, nil
}

// blobOwner is the role "Storage Blob Data Owner", which the Functions host needs to keep its keys and locks.
const blobOwner = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"

// assignmentPath is where the role of an identity on the storage account is assigned. Its name is a UUID, which is the same on every call.
func (e *Executor) assignmentPath(principal string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(e.accountPath()) + "\x00" + principal + "\x00" + blobOwner))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8: of a kind of one's own
	id := fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	return e.accountPath("providers/Microsoft.Authorization/roleAssignments", id)
}

// grant lets an identity use the storage account. A new identity may be unknown for a while.
func (c *convergence) grant(ctx context.Context, principal string) error {
	var a roleAssignment
	a.Properties.RoleDefinitionID = "/subscriptions/" + url.PathEscape(c.subscription) + "/providers/Microsoft.Authorization/roleDefinitions/" + blobOwner
	a.Properties.PrincipalID = principal
	a.Properties.PrincipalType = "ServicePrincipal"
	w := c.wait(c.pace.role, "the app's identity could not be given a role")
	w.Absent = c.pace.appear
	return w.Until(ctx, func(ctx context.Context) error {
		err := c.call(ctx, http.MethodPut, c.assignmentPath(principal), rolesAPI, a, nil)
		if c.awaitsRole(err); azureCode(err) == "RoleAssignmentExists" {
			return nil
		}
		return err
	})
}
