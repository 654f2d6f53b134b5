//go:build !faas_only || faas_azure

package azure

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// shared is what tests share because building it takes seconds: the job binary, and packages by
// their contents.
var shared struct {
	sync.Mutex
	dir      string
	binary   *faas.Binary
	packages map[string]*faas.Package
	store    *azuretest.Store
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "azure-test-")
	if err != nil {
		panic(err)
	}
	shared.dir, shared.packages, shared.store = dir, map[string]*faas.Package{},
		azuretest.NewStore(filepath.Join(dir, "unpacked"))
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // what is left is in the system's directory for such
		os.Exit(code)
	}))
}

// binaryEnv names the job binary for a process that a test starts.
const binaryEnv = "AZURE_TEST_BINARY"

func testBinary(t testing.TB) *faas.Binary {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.binary != nil {
		return shared.binary
	}
	path := os.Getenv(binaryEnv)
	if path == "" {
		built := faastest.JobBinary(t)
		text, err := os.ReadFile(built)
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(shared.dir, filepath.Base(built))
		if err := os.WriteFile(path, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := faas.InspectBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	shared.binary = bin
	return bin
}

func packageOf(t testing.TB, files []faas.PackageFile) *faas.Package {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	key := fmt.Sprintf("%+v", files)
	if shared.packages[key] == nil {
		pkg, err := faas.BuildPackage(t.Context(), shared.dir, files)
		if err != nil {
			t.Fatal(err)
		}
		shared.packages[key] = pkg
	}
	return shared.packages[key]
}

// fastPace is for tests: a fake changes its states within milliseconds.
var fastPace = pace{first: time.Millisecond, longest: 10 * time.Millisecond, state: 20 * time.Second,
	appear: 10 * time.Second, busy: 10 * time.Second,
	role: 10 * time.Second, upload: time.Millisecond, rarest: 10 * time.Millisecond, settle: 500 * time.Millisecond,
	retry: time.Millisecond, grace: 5 * time.Second,
	follow: logs.Pace{First: time.Millisecond, Longest: 20 * time.Millisecond},
}

// planLimits are the limits of the plan that this package deploys to.
var planLimits = faas.Limits{MaxMemoryMB: maxPlanMemoryMB, MaxTimeoutSecs: maxPlanTimeoutSecs, MaxPayloadMB: 100}

func serve(t testing.TB, cfg azuretest.Config) *azuretest.Server {
	t.Helper()
	cfg.Store = shared.store
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

// openAt opens an executor on a stand-in. It uses the real client-secret flow and does not read the
// environment, so that tests can run at the same time.
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
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: server.URL(), Audience: azuretest.Audience}},
	}
	credential, err := azidentity.NewClientSecretCredential(azuretest.Tenant, azuretest.ClientID, azuretest.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: policy.ClientOptions{Cloud: where, Transport: client},
			DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	p := fastPace
	if o.pace != nil {
		p = *o.pace
	}
	e, err := New(t.Context(), faas.Config{Service: service, SubscriptionID: azuretest.Subscription, Region: "westeurope",
		Options: o.options, HTTPClient: client},
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
		Binary:   testBinary(t),
		MaxBody:  maxBody,
		Open: func(t testing.TB, service string) faas.Executor {
			return openAt(t, server, service, opening{options: reporting(server)})
		},
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			return openAt(t, server, service, opening{
				options: reporting(server), wrap: func(base http.RoundTripper) http.RoundTripper {
					bad := sky.Transport(base)
					return roundTripper(func(r *http.Request) (*http.Response, error) {
						if strings.Contains(r.URL.Path, "/v2.0/") { // whoever signs in reads nothing of a service
							return base.RoundTrip(r)
						}
						return bad.RoundTrip(r)
					})
				}})
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
