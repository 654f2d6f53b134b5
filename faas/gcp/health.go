//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/functionid"
)

// maxWarm is how many warm-up requests are under way at the same time.
const maxWarm = 64

// Warm sends n requests that run no job, at the same time, and returns how many the function answered. Google decides how many instances serve
// them: at least one, and fewer than n where one instance serves several requests, or answers one before the next comes. KeepWarm is what keeps instances for certain.
func (e *Executor) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	r := request{op: "warm", job: int64(jobID)}
	if n < 1 {
		return 0, e.errorf(faas.ErrInvalidArgument, r, "%d instances cannot be warmed; the least is 1", n)
	}
	known, err := e.route(ctx, r, jobID)
	if err != nil {
		return 0, err
	}
	to := known.url
	var group sync.WaitGroup
	var answered atomic.Int64
	var first atomic.Pointer[faas.Error]
	slots := make(chan struct{}, maxWarm)
	for range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			a, failed := e.postJSON(ctx, r, to, []byte(faas.WarmRequest))
			switch {
			case failed != nil:
			case a.ok() || a.status == http.StatusBadRequest: // a binary that does not know the request was started all the same
				answered.Add(1)
				return
			default:
				post := r
				post.method, post.url = http.MethodPost, to
				failed = e.invokeError(post, a)
			}
			first.CompareAndSwap(nil, failed)
		})
	}
	group.Wait()
	if answered.Load() == 0 {
		if failed := first.Load(); failed.Code == faas.ErrNotFound {
			e.routes.Delete(jobID)
		}
		return 0, first.Load()
	}
	return int(answered.Load()), nil
}

// Health tells what Google says of the function. It starts no instance.
func (e *Executor) Health(ctx context.Context, jobID uint32) (faas.Health, error) {
	got, err := e.observe(ctx, request{op: "health", job: int64(jobID)}, functionid.CloudRun.Of(e.set.service, jobID))
	if err != nil {
		return faas.Health{}, err
	}
	return faas.Health{Healthy: got.status == faas.StatusReady, Reason: got.reason}, nil
}
