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
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
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
	return c.answers(ctx, s, c.unit.Functions[0].JobID)
}

// syncTriggers tells Azure's scale controller what the app's functions are. A host that is still starting refuses. Azure does the same by itself some time
// after a package was published, so what cannot be done is no failure; whether the functions answer is seen in any case.
func (c *convergence) syncTriggers(ctx context.Context) error {
	w := c.newWait(c.pace.settle)
	for {
		err := c.call(ctx, http.MethodPost, c.sitePath(c.unit.ID, "syncfunctiontriggers"), webAPI, nil, nil)
		if err == nil || !isStarting(err) && statusOf(err) != http.StatusBadRequest && statusOf(err) != http.StatusInternalServerError {
			return err
		}
		more, perr := w.pauseFor(ctx, askedBy(err))
		if perr != nil {
			return errors.Join(perr, err)
		}
		if !more {
			c.logger.WarnContext(ctx, "the app's triggers could not be synced", "app", c.unit.ID, "error", c.fail(ctx, "deploy", faas.NoJob, err).Error())
			return nil
		}
	}
}

// listed waits until Azure lists all functions of the unit, and none that it no longer has. Where it lists nothing at all, what answers counts.
func (c *convergence) listed(ctx context.Context) error {
	var wanted []string
	for _, f := range c.unit.Functions {
		wanted = append(wanted, strings.ToLower(functionName(f.JobID)))
	}
	slices.Sort(wanted)
	w, missing := c.newWait(c.options.readyTimeout), c.newWait(c.pace.settle)
	for {
		found, err := c.functions(ctx, c.unit.ID)
		if err != nil && !isStarting(err) {
			return err
		}
		if err == nil && slices.Equal(found, wanted) {
			return nil
		}
		if isNotFound(err) && missing.over() {
			c.logger.WarnContext(ctx, "Azure does not list the app's functions", "app", c.unit.ID)
			return nil
		}
		if more, perr := w.pauseFor(ctx, askedBy(err)); perr != nil || !more {
			return errors.Join(perr, err, w.expired(perr, "the package was published, and Azure lists the functions %v instead of %v", found, wanted))
		}
	}
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
	w := e.newWait(e.options.readyTimeout)
	var key string
	for {
		var err error
		if key == "" {
			key, err = e.functionKey(ctx, s.Name)
		}
		if err == nil {
			var unauthorized bool
			if unauthorized, err = e.probe(ctx, host, jobID, key); err == nil {
				return nil
			}
			if unauthorized {
				key = ""
			}
		}
		if ctx.Err() == nil && !isTemporary(err) {
			return err
		}
		if more, perr := w.pauseFor(ctx, askedBy(err)); perr != nil || !more {
			return errors.Join(perr, e.notReady(ctx, s.Name, host, w.expired(perr, "app %s does not answer: %v", s.Name, err)))
		}
	}
}

// notReady adds to an error what the host says of itself.
func (e *Executor) notReady(ctx context.Context, id, host string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	status, serr := e.hostStatus(ctx, id, host)
	if serr != nil || len(status.Errors) == 0 {
		return err
	}
	return fmt.Errorf("%w; the host is in the state %s: %s", err, foreign.Line(status.State, 40), foreign.Line(strings.Join(status.Errors, "; "), maxMessage))
}

// isTemporary reports whether an error is of the kind that a host which is still starting makes.
func isTemporary(err error) bool {
	var p *probeError
	if errors.As(err, &p) || isStarting(err) {
		return true
	}
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusInternalServerError, http.StatusGatewayTimeout, http.StatusConflict:
		return true
	}
	return faas.CodeOf(err) == faas.ErrUnavailable || statusOf(err) == http.StatusTooManyRequests
}

// probeError is an answer of a function host that is not from the job binary.
type probeError struct{ status int }

func (e *probeError) Error() string {
	return fmt.Sprintf("the function host answers with status %d", e.status)
}

// probeTimeout bounds a probe, which may start an instance.
const probeTimeout = 90 * time.Second

// probe asks a function for a sign of life. unauthorized says that the key was refused.
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
	case http.StatusOK, http.StatusBadRequest, http.StatusUnprocessableEntity: // the latter two: a binary that does not know the probe
		return false, nil
	case http.StatusUnauthorized:
		return true, &probeError{resp.StatusCode}
	}
	return false, &probeError{resp.StatusCode}
}

// functionKey returns the key for all functions of an app. A host that has not started yet has none, which is ErrUnavailable.
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
	e.secrets.add(keys.MasterKey)
	for _, key := range keys.FunctionKeys {
		e.secrets.add(key)
	}
	return &keys, nil
}

// hostStatus asks an app's host how it is. It takes the host's master key, which is used for nothing else and not kept.
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

// maxStatus bounds what is read of a host's status, in bytes.
const maxStatus = 1 << 20
