//go:build !faas_only || faas_azure

package azure

import (
	"context"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Restore makes the app anew with its former package and configuration, as Azure keeps neither. Without the package it can only tell that nothing was
// changed.
func (e *Executor) Restore(ctx context.Context, u faas.Unit, prior faas.State) error {
	id := prior.ID
	if id == "" {
		id = u.ID
	}
	s, err := e.owned(ctx, "restore", id)
	switch {
	case err == nil:
		now := e.state(id, s)
		if now.Status == prior.Status && now.PackageSHA256 == prior.PackageSHA256 && now.Fingerprint == prior.Fingerprint && now.PackageSHA256 != "" {
			return nil
		}
	case faas.CodeOf(err) != faas.ErrNotFound:
		return e.fail(ctx, "restore", faas.NoJob, err, values(u)...)
	}
	if u.Package == nil || len(u.Functions) == 0 || prior.PackageSHA256 != "" && u.Package.SHA256() != prior.PackageSHA256 {
		return faas.Errorf(faas.ErrUnsupported, "restore", faas.AzureFunctions,
			"app %s was changed, and Azure keeps no former version: without the package of that version it cannot be put back; deploy it again", id)
	}
	if _, err := e.Converge(ctx, u, &prior, nil); err != nil {
		return e.fail(ctx, "restore", faas.NoJob, err, values(u)...)
	}
	return nil
}
