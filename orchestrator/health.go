package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// healthTimeout is how long the runner may take to answer a health check.
const healthTimeout = 5 * time.Second

// healthCheck asks a runner over HTTP. A nil healthCheck asks nothing.
type healthCheck struct {
	url    string
	client *http.Client
}

func newHealthCheck(url string) *healthCheck {
	if url == "" {
		return nil
	}
	// Without connections that stay open nothing must be closed.
	return &healthCheck{url, &http.Client{Timeout: healthTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// check returns h, unhealthy with the reason if the HTTP check fails.
func (c *healthCheck) check(ctx context.Context, h faas.Health) faas.Health {
	if c == nil || !h.Healthy {
		return h
	}
	if why := c.ask(ctx); why != "" {
		h.Healthy, h.Reason = false, why
	}
	return h
}

func (c *healthCheck) ask(ctx context.Context) (why string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return "orchestrator.Local.HealthURL is not a URL"
	}
	resp, err := c.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which may contain a secret
		}
		return fmt.Sprintf("its health check fails: %v", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // only the status counts
	if resp.StatusCode/100 != 2 {
		return fmt.Sprintf("its health check answers %s", resp.Status)
	}
	return ""
}

// healthPoll is how often a starting runner is asked.
const healthPoll = 50 * time.Millisecond

// awaitHealthy returns when the HTTP check succeeds, or at once without a check.
func (o *Local) awaitHealthy(ctx context.Context, r Runner) error {
	if o.HealthURL == "" {
		return nil
	}
	timeout := o.StartTimeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(healthPoll)
	defer ticker.Stop()
	reason := ""
	for {
		h, err := r.Health(ctx)
		if err == nil && h.Healthy {
			return nil
		}
		if ctx.Err() == nil {
			reason = h.Reason
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return faas.Errorf(faas.ErrTimeout, "start runner", "", "the runner did not become healthy within %v: %s: %w",
				timeout, reason, ctx.Err())
		}
	}
}
