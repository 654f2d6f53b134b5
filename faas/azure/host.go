//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// ready waits until Azure knows the functions of the new package and they answer.
func (c *convergence) ready(ctx context.Context, s *site) error {
	c.report(faas.Progress{Step: "sync triggers"})
	if err := c.syncTriggers(ctx); err != nil {
		return err
	}
	c.report(faas.Progress{Step: "wait"})
	if err := c.listed(ctx); err != nil {
		return err
	}
	return c.answers(ctx, s, c.jobs[0])
}

// syncTriggers tells Azure's scale controller the app's functions. A host that is still starting
// refuses. Azure does the same by itself some time after a package was published, so a failure here
// is ignored; Converge checks in any case whether the functions answer.
func (c *convergence) syncTriggers(ctx context.Context) error {
	w := c.wait(c.pace.settle, "the app's triggers could not be synced")
	w.Absent = c.pace.settle
	w.Patience = isStarting
	err := w.Until(ctx, func(ctx context.Context) error {
		return c.call(ctx, http.MethodPost, c.sitePath(c.id, "syncfunctiontriggers"), webAPI, nil, nil)
	})
	var vain *kit.WaitError
	if errors.As(err, &vain) && vain.Ended == nil || isNotFound(err) {
		c.logger.WarnContext(ctx, "the app's triggers could not be synced", "app", c.id, "error",
			c.fail(ctx, "deploy", faas.NoJob, err).Error())
		return nil
	}
	return err
}

// listed waits until Azure lists all functions of the unit, and none that it no longer has. If
// Azure lists nothing at all, what answers counts.
func (c *convergence) listed(ctx context.Context) error {
	var wanted []string
	for _, job := range c.jobs {
		wanted = append(wanted, strings.ToLower(functionName(job)))
	}
	slices.Sort(wanted)
	w := c.wait(c.options.readyTimeout, "the package was published, and Azure does not list its functions")
	w.Absent = c.pace.settle
	err := w.Until(ctx, func(ctx context.Context) error {
		found, err := c.functions(ctx, c.id)
		if err == nil && !slices.Equal(found, wanted) {
			return kit.NotYet(0, "it lists %v instead of %v", found, wanted)
		}
		return err
	})
	if isNotFound(err) && ctx.Err() == nil {
		c.logger.WarnContext(ctx, "Azure does not list the app's functions", "app", c.id)
		return nil
	}
	return err
}

// functions returns the names of an app's functions, sorted and in lower case.
func (e *Executor) functions(ctx context.Context, id string) ([]string, error) {
	all, err := listAll[function](ctx, e, e.sitePath(id, "functions"), webAPI)
	var found []string
	for _, f := range all {
		found = append(found, strings.ToLower(f.name()))
	}
	slices.Sort(found)
	return slices.Compact(found), err
}

// answers waits until the function of a job answers, which starts an instance and runs no job.
func (e *Executor) answers(ctx context.Context, s *site, jobID uint32) error {
	host := s.functionHost()
	if host == "" {
		return faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions, "Azure names no host of app %s", s.Name)
	}
	var key string
	w := e.wait(e.options.readyTimeout, "app %s does not answer", s.Name)
	w.Absent = e.pace.appear
	w.Patience = isStarting
	err := w.Until(ctx, func(ctx context.Context) (err error) {
		if key == "" {
			if key, err = e.functionKey(ctx, s.Name); err != nil {
				return err
			}
		}
		unauthorized, err := e.probe(ctx, host, jobID, key)
		if unauthorized {
			key = ""
		}
		return err
	})
	var vain *kit.WaitError
	if errors.As(err, &vain) && ctx.Err() == nil {
		return e.notReady(ctx, s.Name, host, err)
	}
	return err
}

// notReady adds to an error what the host says about itself. The time for the app is over.
func (e *Executor) notReady(ctx context.Context, id, host string, err error) error {
	if status, serr := e.hostStatus(ctx, id, host); serr == nil && len(status.Errors) > 0 {
		err = fmt.Errorf("%w; the host is in the state %s: %s", err, sanitize.Line(status.State, 40),
			sanitize.Line(e.hider()(strings.Join(status.Errors, "; ")), maxMessage))
	}
	return &faas.Error{Op: "deploy", Provider: faas.AzureFunctions, JobID: faas.NoJob, Code: faas.ErrTimeout, Err: err}
}

// isStarting is patient with the errors of a host that is still starting, for as long as a wait
// lasts.
func isStarting(err error, _ kit.Refusal) time.Duration {
	var p *probeError
	if errors.As(err, &p) || statusOf(err) == http.StatusBadRequest {
		return mostReadyWait
	}
	return -1
}

// mostReadyWait is longer than any wait for a host.
const mostReadyWait = 24 * time.Hour

// probeError is an answer of a function host that is not from the job binary.
type probeError struct{ status int }

func (e *probeError) Error() string {
	return fmt.Sprintf("the function host answers with status %d", e.status)
}

// probeTimeout bounds a probe, which may start an instance.
const probeTimeout = 90 * time.Second

// probe checks that a function answers. unauthorized says that the key was refused.
func (e *Executor) probe(ctx context.Context, host string, jobID uint32, key string) (unauthorized bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, jobURL(host, jobID), strings.NewReader(faas.WarmRequest))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(keyHeader, key)
	resp, err := e.http.Do(req)
	if err != nil {
		return false, err
	}
	defer drain(resp.Body)
	switch resp.StatusCode {
	// A binary that does not know the probe answers with one of the latter two.
	case http.StatusOK, http.StatusBadRequest, http.StatusUnprocessableEntity:
		return false, nil
	case http.StatusUnauthorized:
		return true, &probeError{resp.StatusCode}
	}
	return false, &probeError{resp.StatusCode}
}

// functionKey returns the key for all functions of an app. A host that has not started yet has
// none, which is an ErrUnavailable.
func (e *Executor) functionKey(ctx context.Context, id string) (string, error) {
	keys, err := e.keys(ctx, id)
	if err != nil {
		return "", err
	}
	key := keys.FunctionKeys["default"]
	if key == "" {
		for _, other := range keys.FunctionKeys {
			key = max(key, other) // any of them, but always the same
		}
	}
	if key == "" {
		return "", faas.Errorf(faas.ErrUnavailable, "", faas.AzureFunctions, "the host of app %s has no function key yet", id)
	}
	return key, nil
}

// keys returns the keys of an app's host, which are secrets.
func (e *Executor) keys(ctx context.Context, id string) (*hostKeys, error) {
	var keys hostKeys
	if err := e.call(ctx, http.MethodPost, e.sitePath(id, "host/default/listkeys"), webAPI, nil, &keys); err != nil {
		return nil, err
	}
	e.secrets.Add(keys.MasterKey)
	for _, key := range keys.FunctionKeys {
		e.secrets.Add(key)
	}
	return &keys, nil
}

// hostStatus asks an app's host for its status. That takes the host's master key, which is used for
// nothing else and not kept.
func (e *Executor) hostStatus(ctx context.Context, id, host string) (*hostStatus, error) {
	keys, err := e.keys(ctx, id)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/admin/host/status", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(keyHeader, keys.MasterKey)
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return nil, &probeError{resp.StatusCode}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, err
	}
	var status hostStatus
	if err := unmarshal(text, &status); err != nil {
		return nil, err
	}
	return &status, nil
}

// maxStatus is how many bytes of a host's status are read.
const maxStatus = 1 << 20

// Health asks the app's host for its status, which starts the host if no instance runs.
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
		reason := "the host is in the state " + sanitize.Line(status.State, 40)
		if len(status.Errors) > 0 {
			reason += ": " + sanitize.Line(strings.Join(status.Errors, "; "), maxMessage)
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

// Warm sends n requests at once that run no job, and returns how many were answered. Azure decides
// how many instances they start: one instance takes several requests, depending on its size and the
// option "concurrency".
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

// job returns the app if it has a function for the job.
func (e *Executor) job(ctx context.Context, op string, jobID uint32) (*invokable, error) {
	app, err := e.resolve(ctx, op)
	if err != nil {
		return nil, e.fail(ctx, op, int64(jobID), err)
	}
	if _, there := app.jobs[jobID]; !there {
		return nil, faas.JobErrorf(faas.ErrNotFound, op, faas.AzureFunctions, jobID, "app %s has no function for this job",
			e.names.app)
	}
	return app, nil
}
