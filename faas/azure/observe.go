//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
)

// Observe reads the app, whose tags say what it is.
func (e *Executor) Observe(ctx context.Context, id string) (faas.State, error) {
	s, err := e.owned(ctx, "observe", id)
	if err != nil {
		return faas.State{}, e.fail(ctx, "observe", faas.NoJob, err)
	}
	return e.state(s), nil
}

// CheckPlace returns an ErrConflict if the app of a recorded state is in another subscription than the
// executor's.
func (e *Executor) CheckPlace(_ context.Context, recorded faas.State) error {
	parts := strings.Split(recorded.Resource, "/") // /subscriptions/ID/...
	if len(parts) < 3 || !strings.EqualFold(parts[1], "subscriptions") || strings.EqualFold(parts[2], e.subscription) {
		return nil
	}
	return faas.Errorf(faas.ErrConflict, "open", faas.AzureFunctions, "app %s is in subscription %s, and this is subscription %s, where nothing of it would be found", recorded.ID, parts[2], e.subscription)
}

// List returns the apps in the resource group that carry the service's tags.
func (e *Executor) List(ctx context.Context) ([]faas.State, error) {
	var sites []site
	missing := 0
	err := e.wait(e.pace.busy, "the apps of resource group %s could not be listed", e.names.group).Until(ctx, func(ctx context.Context) (err error) {
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

// listAll reads all pages of a list.
func listAll[T any](ctx context.Context, e *Executor, path, version string) ([]T, error) {
	var all []T
	for {
		var page list[T]
		if err := e.call(ctx, http.MethodGet, path, version, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		if page.NextLink == "" {
			return all, nil
		}
		next, err := url.Parse(page.NextLink)
		if err != nil || next.Scheme != "https" || !strings.EqualFold(next.Host, hostOf(e.arm.Endpoint())) {
			return nil, faas.Errorf(faas.ErrUnavailable, "list", faas.AzureFunctions, "Azure continues a list at another host, where no token is sent")
		}
		path, version = page.NextLink, ""
	}
}

func unmarshal(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return faas.Errorf(faas.ErrUnavailable, "", faas.AzureFunctions, "an answer is not in the expected shape: %s", foreign.Line(err.Error(), 200))
	}
	return nil
}
