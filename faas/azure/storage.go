//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// base is what an app depends on.
type base struct {
	account   account
	plan      plan
	container string // URL of the package container
}

// ensureBase makes sure that resource group, plan, storage account and container exist. It only
// reads those that do. Plan and storage do not wait for each other.
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

func (e *Executor) ensureStorage(ctx context.Context, b *base) error {
	if err := e.ensureAccount(ctx, &b.account); err != nil {
		return err
	}
	ends := b.account.Properties.PrimaryEndpoints
	if ends == nil || ends.Blob == "" {
		return faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions, "storage account %s names no blob endpoint",
			e.names.account)
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
			return faas.Errorf(faas.ErrAlreadyExists, "deploy", faas.AzureFunctions, "the name of storage account %s "+
				`is taken elsewhere in Azure: set the option "storage_account" to a free name: %w`, e.names.account, err)
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
	for _, service := range []struct{ name, url string }{
		{"Blob", ends.Blob}, {"Queue", ends.Queue}, {"Table", ends.Table}} {
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
		return "", faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions, "storage account %s has no key",
			e.names.account)
	}
	e.secrets.Add(keys.Keys[0].Value)
	return keys.Keys[0].Value, nil
}

// removeStorage removes the storage account if it is the service's, or else what was made in it. s
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
