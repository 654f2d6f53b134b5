//go:build !faas_only || faas_azure

package azure

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// Statuses of a deployment at the publish endpoint.
const (
	deployCancelled = -1
	deployFailed    = 3
	deploySuccess   = 4
	deployConflict  = 5
	deployPartial   = 6
)

// deployment is the publish endpoint's record of a deployment.
type deployment struct {
	ID         string `json:"id"`
	Status     int    `json:"status"`
	StatusText string `json:"status_text"`
	Message    string `json:"message"`
}

// archive is a zip that can be published.
type archive interface {
	Open() (io.ReadSeekCloser, error)
	Size() int64
}

// publish uploads a package by One Deploy and waits until Azure has put it into place. If the new
// role of the app's identity has no effect yet, or another deployment is in progress, it publishes
// again after a while.
func (c *convergence) publish(ctx context.Context, s *site, zip archive) error {
	host := s.publishHost()
	if host == "" {
		return faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions, "Azure names no publish host of app %s", c.id)
	}
	w := c.wait(c.pace.role, "the package of app %s could not be put into place", c.id)
	w.First, w.Longest = c.pace.upload, c.pace.rarest // each look is an upload
	return w.Until(ctx, func(ctx context.Context) error {
		if c.late != nil && c.fresh {
			// The app runs nothing yet, so that a package of a few bytes can tell whether its role has an
			// effect.
			c.report(faas.Progress{Step: "role"})
			if err := c.publishOnce(ctx, host, emptyPackage); c.awaitsRole(err) {
				return err
			}
		}
		before := c.memory.replaced(c.id, true)
		err := c.publishOnce(ctx, host, zip)
		var failed *deployError
		if errors.As(err, &failed) || isClientError(err) { // then the former package is certainly still in place
			c.memory.replaced(c.id, before)
		}
		if !c.awaitsRole(err) && err == nil {
			c.late = nil
		}
		return err
	})
}

// emptyPackage is a package without functions.
var emptyPackage = func() archive {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("host.json")
	if err == nil {
		_, err = f.Write([]byte(`{"version":"2.0"}`))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		panic("faas/azure: an empty package cannot be made: " + err.Error()) // a buffer takes everything
	}
	return text(b.Bytes())
}()

// text is an archive in memory.
type text []byte

func (t text) Open() (io.ReadSeekCloser, error) { return streaming.NopCloser(bytes.NewReader(t)), nil }

func (t text) Size() int64 { return int64(len(t)) }

func (c *convergence) publishOnce(ctx context.Context, host string, zip archive) error {
	id, err := c.upload(ctx, host, zip)
	if err != nil {
		return err
	}
	if _, empty := zip.(text); !empty {
		c.report(faas.Progress{Step: "publish", Bytes: zip.Size()})
	}
	return c.deployed(ctx, host, id)
}

// upload sends the package and returns the id of the deployment that begins. The publish host of a
// new app may not exist for a while.
func (c *convergence) upload(ctx context.Context, host string, zip archive) (string, error) {
	target := "https://" + host + "/api/publish?" +
		url.Values{"isAsync": {"true"}, "RemoteBuild": {"false"}, "Deployer": {moduleName}}.Encode()
	w := c.wait(c.pace.appear, "the package could not be uploaded to %s", host)
	w.First, w.Longest, w.Absent = c.pace.upload, c.pace.rarest, c.pace.appear
	id := ""
	err := w.Until(ctx, func(ctx context.Context) (err error) {
		id, err = c.uploadOnce(ctx, target, zip)
		return err
	})
	return id, err
}

// uploadOnce sends the package once. After that, it waits a while for the answer even if ctx ends;
// before that, the end of ctx ends it, and Azure has no package to put into place.
func (c *convergence) uploadOnce(ctx context.Context, target string, zip archive) (string, error) {
	file, err := zip.Open()
	if err != nil {
		return "", err
	}
	var complete atomic.Bool
	sending, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		if !complete.Load() {
			cancel(context.Cause(ctx))
			return
		}
		timer := time.AfterFunc(c.pace.grace, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(sending, func() { timer.Stop() })
	})
	defer stop()
	// upload decides on retries.
	req, err := runtime.NewRequest(policy.WithRetryOptions(sending, policy.RetryOptions{MaxRetries: -1}), http.MethodPost,
		target)
	if err != nil {
		file.Close()
		return "", err
	}
	var told int64
	_, empty := zip.(text)
	body := streaming.NewRequestProgress(file, func(sent int64) {
		if sent == zip.Size() {
			complete.Store(true)
		}
		if !empty && (sent-told >= reportEvery || sent == zip.Size()) {
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
		if complete.Load() && ctx.Err() != nil {
			err = &kit.Unanswered{Grace: c.pace.grace, Ended: context.Cause(ctx), Err: err}
		}
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

// deploymentID reads the id of a new deployment: a JSON string, or an object that contains it.
// Without an id it is the latest deployment.
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

// deployed waits until a deployment has ended. Its record may not exist yet, and may be gone again
// after it has succeeded and the publish host was replaced.
func (c *convergence) deployed(ctx context.Context, host, id string) error {
	target := "https://" + host + "/api/deployments/" + url.PathEscape(id)
	w := c.wait(c.pace.state, "the package was uploaded, and Azure is still putting it into place")
	w.Absent = c.pace.appear
	w.Patience = func(err error, _ kit.Refusal) time.Duration {
		if failed := (*deployError)(nil); errors.As(err, &failed) { // another deployment may fare better
			return 0
		}
		return -1
	}
	seen, lost := false, 0
	return stillGoingOn(w.Until(ctx, func(ctx context.Context) error {
		resp, err := c.request(ctx, c.scm, http.MethodGet, target, "", nil)
		if isNotFound(err) && seen {
			if lost++; lost > maxLost {
				return nil
			}
			return kit.NotYet(0, "its record is gone: %w", err)
		}
		var d deployment
		if err := answered(resp, err, &d); err != nil {
			return err
		}
		seen, lost = true, 0
		switch d.Status {
		case deploySuccess:
			return nil
		case deployPartial:
			c.logger.WarnContext(ctx, "the package is in place, but Azure could not finish what follows, such as restarting "+
				"the app",
				"app", c.id, "azure_says", sanitize.Line(c.hider()(d.StatusText+" "+d.Message), maxMessage))
			return nil
		case deployCancelled, deployFailed, deployConflict:
			return &deployError{d}
		}
		return notYet(resp.Header, "it is still %s", sanitize.Line(c.hider()(d.StatusText), 100))
	}))
}

// maxLost is how often the record of a deployment that was seen may be missing until the deployment
// counts as done. Azure's own tools do the same.
const maxLost = 5

// deployError is a deployment that ended without success.
type deployError struct{ d deployment }

func (e *deployError) Error() string { return e.words(func(text string) string { return text }) }

// words says why the deployment failed. It hides what hide hides.
func (e *deployError) words(hide hider) string {
	why := sanitize.Line(hide(e.text()), maxMessage)
	switch e.d.Status {
	case deployConflict:
		return "another deployment of the app is in progress: " + why
	case deployCancelled:
		return "Azure cancelled the deployment of the package: " + why
	}
	return "Azure could not deploy the package: " + why
}

func (e *deployError) text() string { return strings.TrimSpace(e.d.StatusText + " " + e.d.Message) }

// answer classifies the end of the deployment.
func (e *deployError) answer() kit.Answer {
	codes := map[int]string{deployConflict: codeConflict, deployCancelled: codeCancelled, deployFailed: codeFailed}
	return kit.Answer{Code: codes[e.d.Status], Text: e.text()}
}

// isClientError reports whether the publish host refused an upload.
func isClientError(err error) bool { return statusOf(err) >= 400 && statusOf(err) < 500 }
