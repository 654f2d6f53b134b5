//go:build !faas_only || faas_aws

package aws

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/defaults"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awssign"
	"github.com/tangle-network/blueprint-serverless/internal/logseq"
)

// DefaultRegion is the region used where [faas.Config] names none. AWS_REGION and profiles are not asked, so that one policy means one place on
// every machine.
const DefaultRegion = "us-east-1"

// RoleEnv is the environment variable that names the execution role if the option "role_arn" does not.
const RoleEnv = "AWS_LAMBDA_ROLE_ARN"

func init() {
	faas.Register(faas.AWSLambda, faas.ProviderInfo{
		AtomicUpdate: true,
		Resolve: func(cfg faas.Config) faas.Config {
			cfg.Region = cmp.Or(cfg.Region, DefaultRegion)
			return cfg
		},
		Options: declare(new(options), new(string)).Table(),
		Open: func(ctx context.Context, cfg faas.Config) (faas.Executor, error) {
			e, err := New(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return e, nil
		},
	})
}

// Executor deploys and invokes the job functions of one service on AWS Lambda. It is made by [New], and is safe for concurrent use.
//
// Beyond [faas.Executor] it offers [Executor.InvokeEvent].
type Executor struct {
	faas.Unimplemented
	service string
	region  string
	options options
	logger  logger

	lambda *lambda.Client
	aws    func() aws.Config // a function, which prints as none of the credentials that it holds
	pace   pace
	direct int64 // the largest package that is sent in a call, in bytes

	identity once // the caller's ARN
	role     once // the role of option "create_role"; its value is the ARN
	uploads  uploads
	unsure   unsure
	memory   memory
}

// Service returns the service that the executor is bound to.
func (e *Executor) Service() string { return e.service }

var (
	_ faas.Executor     = (*Executor)(nil)
	_ faas.Bound        = (*Executor)(nil)
	_ faas.PlaceChecker = (*Executor)(nil)
)

// pace says how long to wait for what. Tests make it faster.
type pace struct {
	first, longest time.Duration // between two reads of a state, growing from one to the other
	state          time.Duration // longest wait for a state
	settle         time.Duration // longest time that a read may lag behind a write
	role           time.Duration // how long a new role may be unknown to Lambda
	probe          time.Duration // longest wait for the answer to a probe
	grace          time.Duration // how long a change under way is waited for after its context is done
	late           time.Duration // how long a request without an answer may take to have its effect
	follow         logseq.Pace   // of asking for new lines of log
}

var defaultPace = pace{
	first: 150 * time.Millisecond, longest: 2 * time.Second, state: 10 * time.Minute, settle: 30 * time.Second, role: time.Minute, probe: 2 * time.Minute,
	grace: 3 * time.Second, late: 10 * time.Second, follow: logseq.Pace{First: time.Second, Longest: 8 * time.Second},
}

// New returns an executor for cfg.Service in cfg.Region ([DefaultRegion] where empty). It reads the AWS configuration files and the
// environment and calls nobody: missing credentials come to light with the first call, as an [faas.ErrPermissionDenied] that says how to
// give some. A malformed region, role or option is an [faas.ErrInvalidArgument].
//
// Where cfg.HTTPClient is set, it carries every call to Lambda; it must not limit the time of a call, since a job may run for 15 minutes.
func New(ctx context.Context, cfg faas.Config) (*Executor, error) {
	return open(ctx, cfg, defaultPace)
}

func open(ctx context.Context, cfg faas.Config, pace pace, more ...func(*config.LoadOptions) error) (*Executor, error) {
	region := cfg.Region
	if region == "" {
		region = DefaultRegion
	}
	if !regionPattern.MatchString(region) {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda, "region %q is not the name of an AWS region, such as %q", region, DefaultRegion)
	}
	if cfg.Service == "" {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda, "the service name is empty: an executor is bound to one service")
	}
	opts, err := parseOptions(cfg)
	if err != nil {
		return nil, err
	}

	// Many calls at once go to one host, so its connections are kept; and a job may be silent for 15 minutes, so reads have no deadline of their own.
	client := awshttp.NewBuildableClient().WithReadTimeout(0).WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 2*keptConnections, keptConnections
	})
	load := []func(*config.LoadOptions) error{config.WithRegion(region), config.WithHTTPClient(client), config.WithAppID("blueprint-serverless")}
	if opts.profile != "" {
		load = append(load, config.WithSharedConfigProfile(opts.profile))
	}
	loaded, err := config.LoadDefaultConfig(ctx, append(load, more...)...)
	if err != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda, "the AWS configuration cannot be loaded: %w", err)
	}
	if cfg.HTTPClient != nil {
		loaded.HTTPClient = cfg.HTTPClient
	} else if buildable, ok := loaded.HTTPClient.(*awshttp.BuildableClient); ok {
		loaded.HTTPClient = freeze(buildable, loaded.DefaultsMode) // Close can then close its idle connections
	}
	if loaded.Credentials != nil {
		loaded.Credentials = awssign.Explain(loaded.Credentials)
	}
	return &Executor{
		service: cfg.Service, region: region, options: opts, logger: logger{cfg.Logger},
		lambda: lambda.NewFromConfig(loaded), aws: func() aws.Config { return loaded }, pace: pace, direct: maxDirectUpload,
	}, nil
}

const keptConnections = 256

// freeze builds the HTTP client with the timeouts that the SDK would give it itself for the configured defaults mode. It follows no redirect: what is
// signed is for one address. It speaks HTTP/1.1: Go's HTTP/2 client may send a request again after a server reset its stream, and an invocation must not
// be repeated.
func freeze(client *awshttp.BuildableClient, mode aws.DefaultsMode) *http.Client {
	if m, err := defaults.GetModeConfiguration(mode); err == nil {
		if d, ok := m.GetConnectTimeout(); ok {
			client = client.WithDialerOptions(func(dialer *net.Dialer) { dialer.Timeout = d })
		}
		if d, ok := m.GetTLSNegotiationTimeout(); ok {
			client = client.WithTransportOptions(func(t *http.Transport) { t.TLSHandshakeTimeout = d })
		}
	}
	transport := client.GetTransport() // a copy
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	transport.ForceAttemptHTTP2, transport.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	if transport.TLSClientConfig != nil {
		transport.TLSClientConfig.NextProtos = nil // the SDK's transport has offered HTTP/2 in it
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close closes idle connections. It removes nothing at AWS.
func (e *Executor) Close() error {
	if c, ok := e.aws().HTTPClient.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	return nil
}

// once does something until it succeeds for the first time, and keeps its value. Concurrent callers wait for one another.
type once struct {
	mu    sync.Mutex
	done  bool
	value string
}

func (o *once) do(f func() (string, error)) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done {
		return o.value, nil
	}
	value, err := f()
	if err != nil {
		return "", err
	}
	o.value, o.done = value, true
	return value, nil
}

func (o *once) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.value, o.done = "", false
}
