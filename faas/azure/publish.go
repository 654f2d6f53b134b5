//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
)

// Statuses of a deployment at the publish endpoint.
const (
	deployCancelled = -1
	deployFailed    = 3
	deploySuccess   = 4
	deployConflict  = 5
	deployPartial   = 6
)

// deployment is what the publish endpoint says of one.
type deployment struct {
	ID         string `json:"id"`
	Status     int    `json:"status"`
	StatusText string `json:"status_text"`
	Message    string `json:"message"`
}

// publish uploads the package by One Deploy and waits until Azure has put it into place. A role that the app's identity was given a moment ago may not count
// yet, and another deployment may be going on; then it publishes again after a while.
func (c *convergence) publish(ctx context.Context, s *site) error {
	host := s.publishHost()
	if host == "" {
		return faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions, "Azure names no publish host of app %s", c.unit.ID)
	}
	w := c.newWait(c.pace.role)
	for {
		before := c.memory.replaced(c.unit.ID, true)
		err := c.publishOnce(ctx, host)
		if err == nil {
			return nil
		}
		var failed *deployError
		if errors.As(err, &failed) && failed.changedNothing() || isClientError(err) {
			c.memory.replaced(c.unit.ID, before)
		}
		if failed == nil || !failed.mayPass() {
			return err
		}
		if more, perr := w.pause(ctx); perr != nil || !more {
			return errors.Join(perr, err)
		}
	}
}

func (c *convergence) publishOnce(ctx context.Context, host string) error {
	id, err := c.upload(ctx, host)
	if err != nil {
		return err
	}
	c.report(faas.Progress{Step: "publish", Bytes: c.unit.Package.Size()})
	return c.deployed(ctx, host, id)
}

// upload sends the package and returns the id of the deployment that begins with it. The publish host of a new app may not be there for a while.
func (c *convergence) upload(ctx context.Context, host string) (string, error) {
	target := "https://" + host + "/api/publish?" + url.Values{"isAsync": {"true"}, "RemoteBuild": {"false"}, "Deployer": {moduleName}}.Encode()
	w := c.newWait(c.pace.role)
	for {
		id, err := c.uploadOnce(ctx, target)
		if err == nil || !isStarting(err) && statusOf(err) != http.StatusConflict { // conflict: one that was begun before is still going on
			return id, err
		}
		if more, perr := w.pauseFor(ctx, askedBy(err)); perr != nil || !more {
			return "", errors.Join(perr, err)
		}
	}
}

// isStarting reports whether an error is what a host answers that is not there yet.
func isStarting(err error) bool {
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusBadGateway, http.StatusServiceUnavailable:
		return true
	case 0:
		var (
			transfer    *url.Error
			certificate *tls.CertificateVerificationError
			token       *tokenError
		)
		return errors.As(err, &transfer) && !errors.As(err, &certificate) && !errors.As(err, &token) &&
			!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}
	return false
}

func (c *convergence) uploadOnce(ctx context.Context, target string) (string, error) {
	file, err := c.unit.Package.Open()
	if err != nil {
		return "", err
	}
	ctx = policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1}) // upload decides
	req, err := runtime.NewRequest(ctx, http.MethodPost, target)
	if err != nil {
		file.Close()
		return "", err
	}
	var told int64
	body := streaming.NewRequestProgress(file, func(sent int64) {
		if sent-told >= reportEvery || sent == c.unit.Package.Size() {
			told = sent
			c.report(faas.Progress{Step: "upload", Bytes: sent})
		}
	})
	if err := req.SetBody(body, "application/zip"); err != nil {
		file.Close()
		return "", err
	}
	req.Raw().Header.Set("If-Match", "*")
	req.Raw().Header.Set("Accept", "application/json")
	resp, err := c.scm.Do(req)
	if err != nil {
		return "", err
	}
	if !runtime.HasStatusCode(resp, http.StatusOK, http.StatusAccepted) {
		return "", runtime.NewResponseError(resp)
	}
	text, err := runtime.Payload(resp)
	if err != nil {
		return "", err
	}
	return deploymentID(text, resp.Header), nil
}

// reportEvery is how many bytes lie between two reports.
const reportEvery = 512 << 10

// deploymentID reads the id of a new deployment: a JSON string, or an object that has it. Without one it is the latest.
func deploymentID(body []byte, h http.Header) string {
	var id string
	var d deployment
	switch {
	case json.Unmarshal(body, &id) == nil && id != "":
	case json.Unmarshal(body, &d) == nil && d.ID != "":
		id = d.ID
	default:
		if u, err := url.Parse(h.Get("Location")); err == nil {
			if _, last, ok := strings.Cut(u.Path, "/api/deployments/"); ok {
				id = strings.Trim(last, "/")
			}
		}
	}
	if id == "" || strings.ContainsAny(id, "/?#") {
		return "latest"
	}
	return id
}

// deployed waits until a deployment has ended. Its record may not be there yet, and may be gone again when it has succeeded and the publish host was replaced.
func (c *convergence) deployed(ctx context.Context, host, id string) error {
	w := c.newWait(c.pace.state)
	missing := c.newWait(c.pace.role)
	seen, lost := false, 0
	for {
		d, header, err := c.deployment(ctx, "https://"+host+"/api/deployments/"+url.PathEscape(id))
		switch {
		case isNotFound(err):
			if lost++; seen && lost > maxLost {
				return nil
			}
			if more, perr := missing.pause(ctx); perr != nil || !more {
				return errors.Join(perr, err)
			}
			continue
		case err != nil && !isStarting(err):
			return err
		case err == nil:
			seen, lost = true, 0
			switch d.Status {
			case deploySuccess:
				return nil
			case deployCancelled, deployFailed, deployConflict, deployPartial:
				return &deployError{*d}
			}
		}
		if more, perr := w.pauseFor(ctx, retryAfter(header)); perr != nil || !more {
			return errors.Join(perr, err, w.expired(perr, "the package was uploaded, and Azure is still putting it into place"))
		}
	}
}

// maxLost is how often the record of a deployment that was seen may be missing until it is taken for done, as Azure's own tools do.
const maxLost = 5

func (c *convergence) deployment(ctx context.Context, target string) (*deployment, http.Header, error) {
	req, err := runtime.NewRequest(ctx, http.MethodGet, target)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.scm.Do(req)
	if err != nil {
		return nil, nil, err
	}
	if !runtime.HasStatusCode(resp, http.StatusOK, http.StatusAccepted) {
		return nil, resp.Header, runtime.NewResponseError(resp)
	}
	var d deployment
	if err := runtime.UnmarshalAsJSON(resp, &d); err != nil {
		return nil, resp.Header, err
	}
	return &d, resp.Header, nil
}

// deployError is a deployment that ended without success.
type deployError struct{ d deployment }

func (e *deployError) Error() string {
	why := foreign.Line(strings.TrimSpace(e.d.StatusText+" "+e.d.Message), maxMessage)
	switch {
	case e.d.Status == deployConflict:
		return "another deployment of the app is in progress: " + why
	case e.d.Status == deployCancelled:
		return "Azure cancelled the deployment of the package: " + why
	}
	return "Azure could not deploy the package: " + why
}

// mayPass reports whether the same may work in a while: the app was not allowed to use its storage yet, or another deployment was going on.
func (e *deployError) mayPass() bool {
	why := strings.ToLower(e.d.StatusText + " " + e.d.Message)
	return e.d.Status == deployConflict || e.d.Status == deployFailed && (strings.Contains(why, "authoriz") || strings.Contains(why, "forbidden") || strings.Contains(why, "403"))
}

// changedNothing reports whether the former package is certainly still in place.
func (e *deployError) changedNothing() bool { return e.d.Status != deployPartial }

// isClientError reports whether the publish host refused an upload.
func isClientError(err error) bool { return statusOf(err) >= 400 && statusOf(err) < 500 }

// code is the code of the *faas.Error that it becomes.
func (e *deployError) code() faas.Code {
	if e.d.Status == deployConflict {
		return faas.ErrConflict
	}
	return faas.ErrUnavailable
}
