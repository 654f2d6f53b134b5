//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
)

// Warm sends n requests at the same time that run no job, and returns how many were answered. Azure decides how many instances that makes: one takes
// several requests, by its size and the option "concurrency".
func (e *Executor) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	if n < 1 {
		return kit.Warm(ctx, faas.AzureFunctions, jobID, n, nil)
	}
	app, err := e.job(ctx, "warm", jobID)
	if err != nil {
		return 0, err
	}
	warm, err := kit.Warm(ctx, faas.AzureFunctions, jobID, n, func(ctx context.Context) error {
		unauthorized, err := e.probe(ctx, app.host, jobID, app.key.Reveal())
		if unauthorized {
			e.forgetIf(app)
		}
		return err
	})
	if err != nil {
		return 0, e.fail(ctx, "warm", int64(jobID), err)
	}
	return warm, nil
}

// job returns the app where it has a function for the job.
func (e *Executor) job(ctx context.Context, op string, jobID uint32) (*invokable, error) {
	app, err := e.resolve(ctx, op)
	if err != nil {
		return nil, e.fail(ctx, op, int64(jobID), err)
	}
	if _, there := app.jobs[jobID]; !there {
		return nil, faas.JobErrorf(faas.ErrNotFound, op, faas.AzureFunctions, jobID, "app %s has no function for this job", e.names.app)
	}
	return app, nil
}

// Health asks the app's host how it is, which starts it where no instance runs.
func (e *Executor) Health(ctx context.Context, jobID uint32) (faas.Health, error) {
	app, err := e.job(ctx, "health", jobID)
	if err != nil {
		return faas.Health{}, err
	}
	status, err := e.hostStatus(ctx, e.names.app, app.host)
	var p *probeError
	switch {
	case err == nil && strings.EqualFold(status.State, "Running") && len(status.Errors) == 0:
		return faas.Health{Healthy: true}, nil
	case err == nil:
		reason := "the host is in the state " + foreign.Line(status.State, 40)
		if len(status.Errors) > 0 {
			reason += ": " + foreign.Line(strings.Join(status.Errors, "; "), maxMessage)
		}
		return faas.Health{Reason: e.hider()(reason)}, nil
	case errors.As(err, &p) && p.status == http.StatusNotFound: // a host that does not say
		_, err = e.probe(ctx, app.host, jobID, app.key.Reveal())
		if err == nil {
			return faas.Health{Healthy: true}, nil
		}
	}
	if errors.As(err, &p) {
		return faas.Health{Reason: p.Error()}, nil
	}
	return faas.Health{}, e.fail(ctx, "health", int64(jobID), err)
}
