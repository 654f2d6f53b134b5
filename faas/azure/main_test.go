//go:build !faas_only || faas_azure

package azure

import (
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fastPace is that of tests: a fake changes its states within milliseconds.
var fastPace = pace{first: time.Millisecond, longest: 10 * time.Millisecond, state: 20 * time.Second, role: 10 * time.Second, retry: time.Millisecond}

// planLimits are those of the plan that this package deploys to.
var planLimits = faas.Limits{MaxMemoryMB: maxPlanMemoryMB, MaxTimeoutSecs: maxPlanTimeoutSecs, MaxPayloadMB: 100}

func serve(t testing.TB, cfg azuretest.Config) *azuretest.Server {
	t.Helper()
	cfg.Dir = t.TempDir()
	server := azuretest.New(cfg)
	t.Cleanup(func() {
		server.Close()
		for _, p := range server.Problems() {
			t.Errorf("the stand-in complains: %s", p)
		}
	})
	return server
}

type opening struct {
	options map[string]string
	wrap    func(http.RoundTripper) http.RoundTripper
	pace    *pace
}

// openAt opens an executor on a stand-in, with the real client-secret flow and without the environment, so that tests can run at the same time.
func openAt(t testing.TB, server *azuretest.Server, service string, o opening) *Executor {
	t.Helper()
	base := server.Transport()
	t.Cleanup(base.CloseIdleConnections)
	var transport http.RoundTripper = base
	if o.wrap != nil {
		transport = o.wrap(base)
	}
	client := &http.Client{Transport: transport}
	where := cloud.Configuration{
		ActiveDirectoryAuthorityHost: server.URL(),
		Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: server.URL(), Audience: azuretest.Audience}},
	}
	credential, err := azidentity.NewClientSecretCredential(azuretest.Tenant, azuretest.ClientID, azuretest.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: policy.ClientOptions{Cloud: where, Transport: client}, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	p := fastPace
	if o.pace != nil {
		p = *o.pace
	}
	e, err := New(faas.Config{Service: service, SubscriptionID: azuretest.Subscription, Region: "westeurope", Options: o.options, HTTPClient: client},
		WithCredential(credential), WithCloud(where), func(s *settings) { s.pace = p })
	if err != nil {
		t.Fatal(err)
	}
	e.local, e.own = true, base // so that Close closes its connections
	t.Cleanup(func() { e.Close() })
	return e
}

func TestConformance(t *testing.T) {
	server := serve(t, azuretest.Config{Polls: 1})
	faastest.Run(t, faastest.Harness{
		Provider: faas.AzureFunctions,
		Limits:   planLimits,
		Open: func(t testing.TB, service string) faas.Executor {
			return openAt(t, server, service, opening{})
		},
		OpenLossy: func(t testing.TB, service string) faas.Executor {
			return openAt(t, server, service, opening{wrap: func(base http.RoundTripper) http.RoundTripper {
				return faastest.FaultyTransport(base, func(r *http.Request) *faastest.Fault {
					if isInvocation(r) {
						return &faastest.Fault{Kind: faastest.LostAnswer}
					}
					return nil
				})
			}})
		},
	})
	if left := server.Left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func isInvocation(r *http.Request) bool {
	return r.Header.Get(keyHeader) != "" && r.Method == http.MethodPost
}
