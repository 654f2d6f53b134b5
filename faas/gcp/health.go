//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"net/http"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Warm sends n requests that run no job, at most 64 at a time, and returns how many the function
// answered. Google decides how many instances serve them: at least one, and fewer than n if one
// instance serves several requests, or answers one before the next arrives. Only KeepWarm
// guarantees instances.
func (e *Executor) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	r := request{op: "warm", job: int64(jobID)}
	to := sync.OnceValues(func() (*route, error) { return e.route(ctx, r, jobID) })
	warm, err := kit.Warm(ctx, faas.GCPFunctions, jobID, n, func(ctx context.Context) error {
		to, err := to()
		if err != nil {
			return err
		}
		a, failed := e.postJSON(ctx, r, to.url, []byte(faas.WarmRequest))
		switch {
		case failed != nil:
			return failed
		case a.ok() || a.status == http.StatusBadRequest: // a binary that does not know the request was started all the same
			return nil
		}
		post := r
		post.method, post.url = http.MethodPost, to.url
		return e.invokeError(post, a)
	})
	if faas.CodeOf(err) == faas.ErrNotFound {
		e.routes.Delete(jobID)
	}
	return warm, err
}

// Health returns what Google reports of the function. It starts no instance.
func (e *Executor) Health(ctx context.Context, jobID uint32) (faas.Health, error) {
	got, err := e.observe(ctx, request{op: "health", job: int64(jobID)}, kit.CloudRunNames.Of(e.set.service, jobID))
	if err != nil {
		return faas.Health{}, err
	}
	return faas.Health{Healthy: got.status == faas.StatusReady, Reason: got.reason}, nil
}
