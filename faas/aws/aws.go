//go:build !faas_only || faas_aws

package aws

import (
	"cmp"
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// DefaultRegion is the region used if [faas.Config] names none. AWS_REGION and profiles are
// ignored, so that a policy means the same place on every machine.
const DefaultRegion = "us-east-1"

// RoleEnv is the environment variable that names the execution role if the option "role_arn" does
// not.
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

// Executor deploys and invokes the job functions of one service on AWS Lambda. [New] makes one. It
// is safe for concurrent use.
//
// Beyond [faas.Executor] it offers [Executor.InvokeEvent].
type Executor struct {
	faas.Unimplemented
	service string
	region  string
	options options
	logger  logger

	lambda *lambda.Client
	s3     *s3.Client
	iam    *iam.Client
	sts    *sts.Client
	logs   *cloudwatchlogs.Client
	aws    func() aws.Config // a function, which prints as none of the credentials that it holds
	pace   pace
	direct int64 // the largest package that is sent in a call, in bytes

	identity kit.Once[struct{}, string] // the caller's ARN
	role     kit.Once[string, ownRole]  // of option "create_role", by its name
	seenRole kit.Once[string, seenRole] // by its name
	packages kit.Once[object, struct{}] // in the bucket; without a key it is the bucket itself
	unsure   unsure
	memory   memory
	forms    kit.Once[string, *taking] // by the names of functions
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
	first, longest time.Duration // between two reads of a state, growing from one to the other
	state          time.Duration // longest wait for a state
	settle         time.Duration // longest time that a read may lag behind a write
	role           time.Duration // how long a new role may be unknown to Lambda
	probe          time.Duration // longest wait for the answer to a probe
	grace          time.Duration // how long a change under way is waited for after its context is done
	late           time.Duration // how long a request without an answer may take to have its effect
	follow         logs.Pace     // of asking for new lines of log
}

var defaultPace = pace{
	first: 150 * time.Millisecond, longest: 2 * time.Second, state: 10 * time.Minute, settle: 30 * time.Second,
	role: time.Minute, probe: 2 * time.Minute,
	grace: 3 * time.Second, late: 10 * time.Second, follow: logs.Pace{First: time.Second, Longest: 8 * time.Second},
}

// New returns an executor for cfg.Service in cfg.Region, or in [DefaultRegion] if that is empty. It
// reads the AWS configuration files and the environment, and makes no call: the first call reports
// missing credentials, with an [faas.ErrPermissionDenied] that says how to supply them. A malformed
// region, role or option is an [faas.ErrInvalidArgument].
//
// If cfg.HTTPClient is set, it carries every call, those that fetch credentials included. It must
// not limit the time of a call, since a job may run for 15 minutes.
func New(ctx context.Context, cfg faas.Config) (*Executor, error) {
	return open(ctx, cfg, defaultPace)
}

func open(ctx context.Context, cfg faas.Config, pace pace, more ...func(*config.LoadOptions) error) (*Executor, error) {
	region := cfg.Region
	if region == "" {
		region = DefaultRegion
	}
	if !regionPattern.MatchString(region) {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda,
			"region %q is not the name of an AWS region, such as %q", region, DefaultRegion)
	}
	if cfg.Service == "" {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda,
			"the service name is empty: an executor is bound to one service")
	}
	opts, err := parseOptions(cfg)
	if err != nil {
		return nil, err
	}

	loaded, err := awsclient.Load(ctx, awsclient.Settings{
		Region: region, Profile: opts.profile, HTTPClient: cfg.HTTPClient}, more...)
	if err != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda,
			"the AWS configuration cannot be loaded: %w", err)
	}
	return &Executor{
		service: cfg.Service, region: region, options: opts, logger: logger{cfg.Logger},
		aws:    func() aws.Config { return loaded },
		lambda: lambda.NewFromConfig(loaded), iam: iam.NewFromConfig(loaded), sts: sts.NewFromConfig(loaded),
		logs: cloudwatchlogs.NewFromConfig(loaded),
		// A path can address a bucket of any name, on every server that speaks S3.
		s3:   s3.NewFromConfig(loaded, func(o *s3.Options) { o.UsePathStyle = true }),
		pace: pace, direct: maxDirectUpload,
	}, nil
}

// Close closes idle connections. It removes nothing from AWS.
func (e *Executor) Close() error {
	if c, ok := e.aws().HTTPClient.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	return nil
}
