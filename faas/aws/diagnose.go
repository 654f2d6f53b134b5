//go:build !faas_only || faas_aws

package aws

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// Diagnose checks the credentials (sts:GetCallerIdentity), the clock, the region, access to Lambda
// (lambda:GetFunction), the caller's other permissions (iam:SimulatePrincipalPolicy), the execution
// role (iam:GetRole), the bucket (s3:ListBucket) if one is configured, and the account's quotas
// (lambda:GetAccountSettings). All of these calls only read.
func (e *Executor) Diagnose(ctx context.Context) []faas.Check {
	d := &diagnosis{e: e}
	identity := check.Run(ctx, 2*check.Time, check.Check{Name: "credentials", Run: d.credentials})
	probes := []check.Check{
		{Name: "region", Run: d.region}, {Name: "lambda", Run: d.access}, {Name: "permissions", Run: d.permissions},
		{Name: "role", Run: d.role},
		{Name: "bucket", Run: d.bucket}, {Name: "quota", Run: d.quota},
	}
	checks := append(identity, check.Run(ctx, check.Time, check.Check{Name: "clock", Run: d.clock})...)
	if identity[0].Status == faas.CheckFailed {
		return append(checks, check.SkipAll("there are no credentials that AWS takes", probes...)...)
	}
	d.readSettings(ctx)
	return append(checks, check.Run(ctx, check.Time, probes...)...)
}

var setRegion = check.SetField("provider.region", "REGION")

// diagnosis is the state of one call of Diagnose. Later steps read what earlier ones found.
type diagnosis struct {
	e *Executor

	account, arn string // of the caller
	regionErr    error  // the region did not take credentials that another one takes
	header       http.Header
	sent, came   time.Time

	settings    *lambda.GetAccountSettingsOutput
	settingsErr error
}

// readSettings asks for the quotas. The answer also shows whether Lambda can be reached.
func (d *diagnosis) readSettings(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, check.Time)
	defer cancel()
	d.settings, d.settingsErr = d.e.lambda.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
}

func diagnosed(err error) *faas.Error { return classify("diagnose", faas.NoJob, err) }

const (
	giveKeys  = "export AWS_ACCESS_KEY_ID=ID AWS_SECRET_ACCESS_KEY=KEY"
	newTokens = "export AWS_ACCESS_KEY_ID=ID AWS_SECRET_ACCESS_KEY=KEY AWS_SESSION_TOKEN=TOKEN"
)

// signIn returns a command of the AWS CLI that obtains credentials, for the profile in use.
func (e *Executor) signIn(command string) string {
	if e.options.profile != "" {
		return command + " --profile " + e.options.profile
	}
	return command
}

func (d *diagnosis) credentials(ctx context.Context) faas.Check {
	e := d.e
	found, err := e.aws().Credentials.Retrieve(ctx)
	var missing *awsclient.CredentialsError
	switch {
	case errors.As(err, &missing) && missing.SignIn() != "":
		return check.Fail(diagnosed(err), e.signIn(missing.SignIn()), "the sign-in has expired, or there was none")
	case err != nil && ctx.Err() != nil:
		return check.FailBy(diagnosed(err), "try again: the place where the credentials come from does not answer")
	case err != nil:
		return check.FailBy(diagnosed(err), strings.Join(
			[]string{giveKeys, e.signIn("aws configure"), e.signIn("aws sso login")}, "\n"))
	case found.Expired():
		err := faas.Errorf(faas.ErrPermissionDenied, "diagnose", faas.AWSLambda, "the credentials (%s) expired at %s",
			found.Source, found.Expires.UTC().Format(time.RFC3339))
		return check.FailBy(err, newTokens+"\n"+e.signIn("aws sso login"))
	}
	err = d.identify(ctx, e.region)
	// The oldest region knows every account of its partition. Only this partition has regions that
	// must be enabled.
	if err != nil && e.region != DefaultRegion && (unknownKey(err) || noSuchHost(err)) {
		if d.identify(ctx, DefaultRegion) == nil {
			d.regionErr, err = err, nil
		}
	}
	if err != nil {
		return d.refused(ctx, err)
	}
	if want := e.options.accountID; want != "" && want != d.account {
		err := faas.Errorf(faas.ErrPermissionDenied, "diagnose", faas.AWSLambda,
			`the credentials are of account %s, and the option "account_id" allows only %s`, d.account, want)
		return check.FailBy(err, check.SetOption("profile", "PROFILE")+" (with credentials of account "+want+")")
	}
	return check.OK("account %s, %s, from %s", d.account, d.arn, found.Source)
}

// identify asks STS in a region who the caller is. Every answer tells the time.
func (d *diagnosis) identify(ctx context.Context, region string) error {
	out, err := d.e.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.Options) {
		o.Region = region
		o.APIOptions = append(o.APIOptions, d.watch)
	})
	if err != nil {
		return err
	}
	if d.account, d.arn = aws.ToString(out.Account), aws.ToString(out.Arn); d.account == "" {
		return faas.Errorf(faas.ErrUnavailable, "diagnose", faas.AWSLambda,
			"the answer of STS to GetCallerIdentity names no account")
	}
	return nil
}

// watch records when each attempt was sent and answered, and the header of its answer.
func (d *diagnosis) watch(stack *middleware.Stack) error {
	look := func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		middleware.DeserializeOutput, middleware.Metadata, error,
	) {
		sent := time.Now()
		out, m, err := next.HandleDeserialize(ctx, in)
		if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp.StatusCode != 0 {
			d.header, d.sent, d.came = resp.Header, sent, time.Now()
		}
		return out, m, err
	}
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("WatchClock", look), middleware.Before)
}

// stsHost and lambdaHost return the hosts of the services, for messages.
func (d *diagnosis) stsHost(ctx context.Context) string {
	at := d.e.sts.Options().EndpointOptions
	return host(sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sts.EndpointParameters{
		Region: &d.e.region, UseGlobalEndpoint: aws.Bool(false),
		UseFIPS:      aws.Bool(at.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(at.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
	}))
}

func (d *diagnosis) lambdaHost(ctx context.Context) string {
	at := d.e.lambda.Options().EndpointOptions
	return host(lambda.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, lambda.EndpointParameters{
		Region:       &d.e.region,
		UseFIPS:      aws.Bool(at.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(at.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
	}))
}

func host(at smithyendpoints.Endpoint, err error) string {
	if err != nil {
		return "AWS"
	}
	return at.URI.Host
}

func unknownKey(err error) bool {
	switch apiCode(err) {
	case "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure":
		return true
	}
	return false
}

func noSuchHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// refused says why STS did not identify the caller.
func (d *diagnosis) refused(ctx context.Context, err error) faas.Check {
	e, failed := d.e, diagnosed(err)
	switch code := apiCode(err); {
	case code == "ExpiredToken" || code == "ExpiredTokenException":
		return check.Fail(failed, newTokens+"\n"+e.signIn("aws sso login"), "the credentials have expired: %s",
			check.Words(failed))
	case d.header != nil && code != "" && failed.Code == faas.ErrPermissionDenied && !unknownKey(err) &&
		d.clockCheck().Status == faas.CheckFailed:
		return check.Fail(failed, check.SetClock(), "requests are refused because of this machine's clock: %s",
			check.Words(failed))
	case unknownKey(err):
		return check.Fail(failed, giveKeys+"\n"+e.signIn("aws configure"),
			"AWS does not know the access key, or the session token: %s", check.Words(failed))
	case code == "SignatureDoesNotMatch" || code == "InvalidSignatureException" || code == "IncompleteSignature":
		return check.Fail(failed, giveKeys+"\n"+e.signIn("aws configure"),
			"the secret key is not that of the access key: %s", check.Words(failed))
	case failed.Code == faas.ErrUnavailable || failed.Code == faas.ErrTimeout:
		return check.FailBy(failed, "let this machine's network, firewall and proxy (HTTPS_PROXY) reach "+d.stsHost(ctx)+
			":443")
	}
	return check.FailBy(failed, e.signIn("aws sts get-caller-identity")+" shows what AWS thinks of the credentials")
}

func (d *diagnosis) clock(context.Context) faas.Check {
	if d.header == nil {
		return check.Skip("AWS was not reached")
	}
	return d.clockCheck()
}

func (d *diagnosis) clockCheck() faas.Check {
	return check.Clock(faas.AWSLambda, "AWS", d.header, d.sent, d.came)
}

// region checks whether the account can use the region. A region that the account has not enabled
// does not know its keys.
func (d *diagnosis) region(ctx context.Context) faas.Check {
	e := d.e
	switch {
	case d.regionErr != nil && noSuchHost(d.regionErr), noSuchHost(d.settingsErr):
		err := diagnosed(errors.Join(d.regionErr, d.settingsErr))
		return check.Fail(err, setRegion, "there is no region %s, or no Lambda in it: %s", e.region, check.Words(err))
	case d.regionErr != nil:
		err := diagnosed(d.regionErr)
		return check.Fail(err, e.signIn("aws account enable-region --region-name "+e.region)+"\n"+setRegion,
			"account %s has not enabled region %s: %s", d.account, e.region, check.Words(err))
	}
	if code := codeOf(d.settingsErr); code == faas.ErrUnavailable || code == faas.ErrTimeout {
		return check.FailBy(diagnosed(d.settingsErr),
			"let this machine's network, firewall and proxy (HTTPS_PROXY) reach "+d.lambdaHost(ctx)+":443")
	}
	return check.OK("Lambda answers in %s", e.region)
}

// partition returns the caller's AWS partition.
func (d *diagnosis) partition() string { return cmp.Or(parseARN(d.arn).partition, "aws") }

// arnOf returns the ARN of a resource of the account.
func (d *diagnosis) arnOf(service, region, resource string) string {
	return "arn:" + d.partition() + ":" + service + ":" + region + ":" + d.account + ":" + resource
}

// denied reports whether the caller lacks the permission for a call.
func denied(err error) bool { return codeOf(err) == faas.ErrPermissionDenied }

// access checks whether functions can be read, which every deployment does first.
func (d *diagnosis) access(ctx context.Context) faas.Check {
	e := d.e
	name := functionName(e.service, 0)
	_, err := e.get(ctx, name, "")
	switch {
	case err == nil || isNotFound(err):
		return check.OK("lambda:GetFunction is allowed for %s", name)
	case denied(err):
		failed := diagnosed(err)
		return check.Fail(failed, d.grant([]statement{
			{"Allow", []string{"lambda:GetFunction"}, d.arnOf("lambda", e.region, "function:"+nameStem(e.service)+"*"), nil}}),
			"the permission lambda:GetFunction is missing: %s", check.Words(failed))
	}
	return check.FailBy(diagnosed(err), "try again, and look at https://health.aws.amazon.com/health/status for "+
		"Lambda in "+e.region)
}
