package runner_test

import (
	"context"
	"math/big"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// counting counts what goes through it.
type counting struct{ requests atomic.Int64 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

// A program of its own kind sets by options what Main's runner gets from nowhere.
func TestOptionsReachTheRunner(t *testing.T) {
	d := startChain(t, member)
	blueprint := d.AddBlueprint(devchain.Blueprint{Rate: big.NewInt(1e15), Definition: tangle.Definition{
		Jobs: make([]tangle.Job, 1)}})
	d.service = d.AddService(devchain.Service{Blueprint: blueprint, PerJob: true})
	earned := d.submit(t, upper, "")
	if err := d.Answer(member, d.service, earned, nil); err != nil { // by an earlier runner
		t.Fatal(err)
	}
	if d.Rewards(devchain.Account(member)).Sign() == 0 {
		t.Fatal("the result earned nothing")
	}
	signer, _, err := runner.OpenKeystore(d.env["KEYSTORE_URI"], "")
	if err != nil {
		t.Fatal(err)
	}
	requests := &counting{}
	r, err := runner.New(runner.Config{RPC: d.url, DataDir: t.TempDir(), Signer: signer, ServiceID: d.service,
		BlueprintID: blueprint},
		runner.WithHandlers(job.Handlers{upper: func(context.Context, []byte) ([]byte, error) { return nil, nil }}),
		runner.WithHTTPClient(&http.Client{Transport: requests}), runner.WithMaxLogRange(1), runner.WithClaims(big.NewInt(1)),
		runner.WithMinBalance(new(big.Int).Lsh(big.NewInt(1), 200)), runner.WithHeartbeats(nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	await(t, "the claim", func() bool { return d.Rewards(devchain.Account(member)).Sign() == 0 })
	await(t, "a heartbeat", func() bool {
		beats, _, _ := d.Beats(d.service, devchain.Account(member))
		return beats > 0
	})
	if s := r.Status(); s.Healthy || !strings.Contains(s.Reason, "wei, which pays for too few results") {
		t.Errorf("health: %v %q", s.Healthy, s.Reason)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if requests.requests.Load() == 0 {
		t.Error("the client was not used")
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
