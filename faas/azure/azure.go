//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// DefaultRegion is the region used if neither [faas.Config] nor [RegionEnv] names one.
const DefaultRegion = "eastus"

// Environment variables that this package reads besides those of azidentity.
const (
	RegionEnv          = "AZURE_REGION"
	ResourceManagerEnv = "AZURE_RESOURCE_MANAGER_ENDPOINT"
)

func init() {
	faas.Register(faas.AzureFunctions, faas.ProviderInfo{
		MaxParallel: 4,
		Resolve:     resolve,
		Options:     declare(new(options)).Table(),
		Open: func(ctx context.Context, cfg faas.Config) (faas.Executor, error) {
			e, err := New(ctx, cfg)
			if err != nil {
				return nil, err // not e: a nil *Executor in an interface is not nil
			}
			return e, nil
		},
	})
}

// Executor deploys and invokes the job functions of one service on Azure Functions. [New] makes
// one. It is safe for concurrent use.
type Executor struct {
	faas.Unimplemented
	service      string
	subscription string
	region       string
	options      options
	names        names
	pace         pace
	logger       *slog.Logger

	http *http.Client
	own  *http.Transport // nil where the caller gave an HTTP client
	arm  *arm.Client
	// polls asks Resource Manager for the state of operations. scm reaches the publish endpoint, and
	// Resource Manager for a diagnosis.
	polls, scm runtime.Pipeline
	blobs      blob.ClientOptions // of clients of storage accounts
	credential azcore.TokenCredential
	// insights asks Application Insights; authority issues tokens.
	insights  runtime.Pipeline
	authority string
	secrets   *sanitize.Cleaner // must not be in any text that leaves the executor
	app       kit.Once[struct{}, *invokable]
	memory    memory
	local     bool // also binaries for this machine are accepted, which only tests can run
}

// Service returns the service of the executor.
func (e *Executor) Service() string { return e.service }

var (
	_ faas.Executor     = (*Executor)(nil)
	_ faas.Bound        = (*Executor)(nil)
	_ faas.PlaceChecker = (*Executor)(nil)
)

// pace says how long to wait for each thing. Tests use a faster one.
type pace struct {
	first, longest time.Duration // between two reads of a state, growing from one to the other, if Azure does not say
	state          time.Duration // longest wait for a resource to reach a state
	appear         time.Duration // how long what was made may be unknown to some of Azure's replicas
	busy           time.Duration // how long Azure may be at work on an earlier change of a resource
	// role is how long a new identity or role may have no effect: Azure documents up to 10 minutes,
	// and half an hour has been seen. upload is the first pause between two uploads meanwhile, rarest
	// the longest.
	role           time.Duration
	upload, rarest time.Duration
	settle         time.Duration // how long the host of an app may not know of a new package
	retry          time.Duration // before a request that is safe to repeat is sent a second time
	grace          time.Duration // how long the answer to a change is awaited once its caller has left
	follow         logs.Pace     // of asking for new lines of log
}

var defaultPace = pace{
	first: 100 * time.Millisecond, longest: 5 * time.Second, state: 15 * time.Minute, appear: 5 * time.Minute,
	busy: 3 * time.Minute,
	role: 30 * time.Minute, upload: 2 * time.Second, rarest: time.Minute, settle: time.Minute,
	retry: 800 * time.Millisecond, grace: 10 * time.Second,
	follow: logs.Pace{First: 5 * time.Second, Longest: 30 * time.Second},
}

// Option changes the executor that [New] makes.
type Option func(*settings)

type settings struct {
	credential azcore.TokenCredential
	cloud      *cloud.Configuration
	pace       pace
}

// WithCredential makes the executor use a credential instead of azidentity.DefaultAzureCredential.
func WithCredential(c azcore.TokenCredential) Option { return func(s *settings) { s.credential = c } }

// WithCloud sets the cloud, instead of the one that the environment names. The configuration needs
// an authority host and a Resource Manager.
func WithCloud(c cloud.Configuration) Option { return func(s *settings) { s.cloud = &c } }

// New returns an executor for cfg.Service in the subscription cfg.SubscriptionID and the region
// cfg.Region. It fills in a place that cfg leaves open as [faas.Resolve] does: if cfg names no
// region, it uses [RegionEnv] or else [DefaultRegion]. It makes no call: the first call reports
// missing credentials, with an [faas.ErrPermissionDenied] that says how to supply them. The error
// is an [faas.ErrInvalidArgument].
//
// If cfg.HTTPClient is set, it carries every call. It must not limit the time of a call, since a
// job may run for 230 seconds. Its transport must not repeat a POST by itself, or Invoke may run a
// job twice.
func New(_ context.Context, cfg faas.Config, opts ...Option) (*Executor, error) {
	set := settings{pace: defaultPace}
	for _, o := range opts {
		o(&set)
	}
	if cfg.Provider = faas.AzureFunctions; set.cloud == nil {
		cfg = faas.Resolve(cfg)
	} else {
		cfg = resolveRegion(cfg)
	}
	e := &Executor{service: cfg.Service, pace: set.pace, logger: cfg.Logger, secrets: sanitize.NewCleaner()}
	if e.service == "" {
		return nil, invalid("the service name is empty: an executor is bound to one service")
	}
	if e.logger == nil {
		e.logger = slog.New(slog.DiscardHandler)
	}
	if err := declare(&e.options).Fill(faas.AzureFunctions, cfg); err != nil {
		return nil, err
	}
	if set.cloud != nil {
		e.options.managerEndpoint = cfg.Options[managerOption] // the environment speaks of another cloud
	}
	var err error
	e.secrets.Add(e.options.insights.Reveal())
	if e.subscription, err = subscriptionOf(cfg); err != nil {
		return nil, err
	}
	if e.region, err = regionOf(cfg); err != nil {
		return nil, err
	}
	e.names = deriveNames(e.service, e.subscription, e.region, e.options)
	if cfg.HTTPClient != nil {
		client := *cfg.HTTPClient
		e.http = &client
	} else {
		e.own = newTransport()
		e.http = &http.Client{Transport: e.own}
	}
	e.http.Transport = httputil.Guard(e.http.Transport)
	// A redirect must not carry credentials and keys to another host.
	e.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if err := e.connect(set); err != nil {
		return nil, err
	}
	return e, nil
}

// newTransport returns a transport that speaks only HTTP/1.1: Go's HTTP/2 client may send a request
// again after a server has reset its stream, and an invocation must not be repeated. It keeps
// enough connections for many concurrent invocations.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.ForceAttemptHTTP2, t.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 256
	return t
}

// Close closes idle connections and removes the packages kept to restore an app. It removes nothing
// from Azure.
func (e *Executor) Close() error {
	if e.own != nil {
		e.own.CloseIdleConnections()
	}
	return e.memory.forget()
}

// Format prints service, subscription and app, and no credential, with any verb.
func (e *Executor) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "azure{subscription:%s region:%s service:%s app:%s}", e.subscription, e.region, e.service, e.names.app)
}

func invalid(format string, args ...any) error {
	return faas.Errorf(faas.ErrInvalidArgument, "open", faas.AzureFunctions, format, args...)
}
