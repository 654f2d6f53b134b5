package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// healthTimeout is how long the runner may take to answer a health check.
const healthTimeout = 5 * time.Second

// healthCheck asks a runner over HTTP.
type healthCheck struct {
	url      string // empty: none
	endpoint endpoint
	client   *http.Client
}

// endpoint is where a runner that links package runner answers about itself.
type endpoint struct {
	File    string `json:"file"` // has the address, on a loopback interface; empty: there is no endpoint
	Service string `json:"service"`
}

// endpointOf is where the runner of a service on chain writes its address.
func endpointOf(spec Spec) endpoint {
	if spec.Chain == nil {
		return endpoint{}
	}
	service := strconv.FormatUint(spec.Chain.ServiceID, 10)
	return endpoint{filepath.Join(dataDir(spec), "runner-"+service+".addr"), service}
}

func newHealthCheck(url string, e endpoint) *healthCheck {
	// Without connections that stay open nothing must be closed.
	return &healthCheck{url, e, &http.Client{Timeout: healthTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// check returns h, unhealthy with the reason if the HTTP check fails or the runner says so.
func (c *healthCheck) check(ctx context.Context, h faas.Health) faas.Health {
	if !h.Healthy {
		return h
	}
	why := ""
	if c.url != "" {
		why = c.ask(ctx)
	}
	if why == "" {
		why, _ = c.askRunner(ctx)
	}
	if why != "" {
		h.Healthy, h.Reason = false, why
	}
	return h
}

// serviceHeader of an endpoint's answer has the number of the service. A file that a runner left
// may have the address of another program by now.
const serviceHeader = "Blueprint-Service"

// askRunner returns why the runner is not healthy, as it says itself. It returns nothing if it says
// that it is, and false if it says nothing: it may be a runner of another kind.
func (c *healthCheck) askRunner(ctx context.Context) (why string, said bool) {
	if c.endpoint.File == "" {
		return "", false
	}
	file, err := os.Open(c.endpoint.File)
	if err != nil {
		return "", false
	}
	text, err := io.ReadAll(io.LimitReader(file, 256))
	_ = file.Close() // it was only read
	if err != nil {
		return "", false
	}
	address, err := netip.ParseAddrPort(strings.TrimSpace(string(text)))
	if err != nil || !address.Addr().IsLoopback() {
		return "", false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address.String()+"/healthz", nil)
	if err != nil {
		return "", false
	}
	resp, err := c.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return fmt.Sprintf("it does not answer about its health: %v", err), false
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what came tells enough
	switch {
	case resp.Header.Get(serviceHeader) != c.endpoint.Service:
		return "", false
	case resp.StatusCode/100 == 2:
		return "", true
	}
	return cmp.Or(sanitize.Line(string(body), 500), "it answers "+resp.Status), true
}

// AskRunner returns what the runner of a service on chain says of its own health, whoever started
// it on this machine. dataDir is the directory of its journal. It returns false if no runner that
// links package runner says anything there.
func AskRunner(ctx context.Context, dataDir string, serviceID uint64) (h faas.Health, said bool) {
	check := newHealthCheck("", endpointOf(Spec{Chain: &Chain{ServiceID: serviceID, DataDir: dataDir}}))
	h.Reason, said = check.askRunner(ctx)
	h.Healthy = said && h.Reason == ""
	return h, said
}

// awaitEndpoint returns when the runner has said something about its health. It gives up after a
// moment, because the binary may be a runner of another kind.
func (c *healthCheck) awaitEndpoint(ctx context.Context, patience time.Duration) error {
	if c.endpoint.File == "" {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(healthPoll)
	defer ticker.Stop()
	for {
		if _, said := c.askRunner(waiting); said {
			return nil
		}
		select {
		case <-ticker.C:
		case <-waiting.Done():
			if err := ctx.Err(); err != nil {
				return faas.Errorf(faas.ErrTimeout, "start runner", "", "%w before the runner was known to run", err)
			}
			return nil
		}
	}
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
