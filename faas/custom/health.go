package custom

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Warm makes the platform start instances. The error is ErrUnsupported on platforms that cannot,
// and on invoke-only ones.
func (e *Executor) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	id := kit.ProtocolNames.Of(e.set.service, jobID)
	r := request{op: "warm", job: int64(jobID), method: http.MethodPost, url: e.functionURL(id, "/warm")}
	if n < 1 {
		return 0, e.errorf(faas.ErrInvalidArgument, r, "%d instances cannot be warmed; the least is 1", n)
	}
	if e.invokeOnly() {
		return 0, e.errorf(faas.ErrUnsupported, r, "an invoke-only platform cannot warm functions")
	}
	if n > 1 {
		r.url += "?instances=" + strconv.Itoa(n)
	}
	a, err := e.send(ctx, r)
	switch {
	case err != nil:
		return 0, err
	case a.missing():
		return 0, e.notOffered(ctx, r, id, "warm functions")
	case !a.ok():
		return 0, e.statusError(r, a)
	}
	var w warmed
	if err := json.Unmarshal(a.body, &w); err != nil || w.InstancesWarmed == nil {
		return 0, e.errorf(faas.ErrUnavailable, r, "%s %s: the answer is not in the protocol's shape: %s", r.method,
			faas.RedactURL(r.url), e.clean.Excerpt(a.body))
	}
	return int(min(count(*w.InstancesWarmed), 1<<31-1)), nil
}

// Health asks the platform for the function's health. On an invoke-only platform, a function is
// healthy if its URL answers HEAD.
func (e *Executor) Health(ctx context.Context, jobID uint32) (faas.Health, error) {
	id := kit.ProtocolNames.Of(e.set.service, jobID)
	r := request{op: "health", job: int64(jobID)}
	if e.invokesByHand() {
		s, err := e.probe(ctx, r, id)
		return faas.Health{Healthy: s.Status == faas.StatusReady, Reason: s.Reason}, err
	}
	h, a, err := e.health(ctx, r, id)
	if err != nil && a != nil && a.missing() {
		r.method, r.url = http.MethodGet, e.functionURL(id, "/health")
		return h, e.notOffered(ctx, r, id, "tell the health of functions")
	}
	return h, err
}

// notOffered returns the error for a 404 on a path below a function: either the function does not
// exist, or the platform lacks the ability.
func (e *Executor) notOffered(ctx context.Context, r request, id, ability string) error {
	if _, err := e.get(ctx, request{op: r.op, job: r.job}, id); err != nil {
		return err
	}
	return e.errorf(faas.ErrUnsupported, r, "the platform cannot %s", ability)
}
