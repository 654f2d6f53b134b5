//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	armruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

const (
	authorityEnv = "AZURE_AUTHORITY_HOST" // azidentity's
	// publicAudience is the audience of tokens for Resource Manager, and for an emulator of it.
	publicAudience = "https://management.azure.com"

	moduleName    = "blueprint-serverless"
	moduleVersion = "v1.0.0"
)

// connect makes the clients of Resource Manager and of the publish endpoint.
func (e *Executor) connect(set settings) error {
	where, err := e.cloud(set)
	if err != nil {
		return err
	}
	client := policy.ClientOptions{
		Cloud: where, Transport: sender{e.http, mostAnswer},
		Retry:            policy.RetryOptions{RetryDelay: e.pace.retry, MaxRetryDelay: longestRetry, TryTimeout: tryTimeout},
		Telemetry:        policy.TelemetryOptions{ApplicationID: moduleName},
		PerRetryPolicies: []policy.Policy{untilCallerLeaves{}},
	}
	credential := set.credential
	if credential == nil {
		credential, err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions: policy.ClientOptions{
				Cloud: where, Transport: client.Transport, Retry: client.Retry, Telemetry: client.Telemetry,
			},
			DisableInstanceDiscovery: !isMicrosoft(where.ActiveDirectoryAuthorityHost),
		})
		if err != nil {
			return invalid("the credentials that the environment describes cannot be used: %w", err)
		}
	}
	credential = &explained{credential}
	e.authority, e.credential = where.ActiveDirectoryAuthorityHost, credential
	e.insights = e.insightsPipeline(credential, client)
	if e.arm, err = arm.NewClient(moduleName, moduleVersion, credential,
		&arm.ClientOptions{ClientOptions: client}); err != nil {
		return invalid("the cloud configuration cannot be used: %w", err)
	}
	// Polls, the publish endpoint and a diagnosis use the same tokens, and register no resource
	// provider.
	unregistering := &arm.ClientOptions{ClientOptions: client, DisableRPRegistration: true}
	pipeline := func(perCall ...policy.Policy) (runtime.Pipeline, error) {
		return armruntime.NewPipeline(moduleName, moduleVersion, credential, runtime.PipelineOptions{PerCall: perCall},
			unregistering)
	}
	if e.scm, err = pipeline(); err != nil {
		return invalid("the cloud configuration cannot be used: %w", err)
	}
	if e.polls, err = pipeline(unended{}); err != nil {
		return invalid("the cloud configuration cannot be used: %w", err)
	}
	// A package is larger than any answer that is held in memory.
	client.Transport, client.Retry.TryTimeout = sender{client: e.http}, 0
	e.blobs.ClientOptions = client
	return nil
}

// cloud returns the authority and the Resource Manager: those of the options, which resolve may
// have filled in from the environment, or else those of the public cloud.
func (e *Executor) cloud(set settings) (cloud.Configuration, error) {
	where := cloudOf(cmp.Or(e.options.authorityHost, cloud.AzurePublic.ActiveDirectoryAuthorityHost))
	if set.cloud != nil {
		where = *set.cloud
	}
	if where.ActiveDirectoryAuthorityHost == "" {
		return where, invalid("the cloud configuration has no authority host")
	}
	manager := where.Services[cloud.ResourceManager]
	if e.options.managerEndpoint != "" {
		manager.Endpoint = e.options.managerEndpoint
	}
	if e.options.managerAudience != "" {
		manager.Audience = e.options.managerAudience
	}
	if manager.Audience == "" {
		manager.Audience = publicAudience
	}
	for name, raw := range map[string]string{"authority host": where.ActiveDirectoryAuthorityHost,
		"Resource Manager endpoint": manager.Endpoint} {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return where, invalid("the %s has to be a URL that begins with https:// and holds no user name: tokens are sent "+
				"there", name)
		}
	}
	manager.Endpoint = strings.TrimRight(manager.Endpoint, "/")
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: where.ActiveDirectoryAuthorityHost,
		Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: manager},
	}, nil
}

// cloudOf returns the cloud of an authority. It takes an unknown authority for that of an emulator
// or of a private cloud, whose Resource Manager must be given.
func cloudOf(authority string) cloud.Configuration {
	for _, c := range []cloud.Configuration{cloud.AzureChina, cloud.AzureGovernment} {
		if isAuthorityOf(c, authority) {
			c.ActiveDirectoryAuthorityHost = authority
			return c
		}
	}
	manager := cloud.AzurePublic.Services[cloud.ResourceManager]
	manager.Audience = publicAudience // azcore has the older name, which counts as well
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: authority, Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: manager},
	}
}

// otherAuthorities holds further names of the authorities of sovereign clouds, by the name that
// azcore knows.
var otherAuthorities = map[string][]string{
	"login.chinacloudapi.cn":    {"login.partner.microsoftonline.cn"},
	"login.microsoftonline.us":  {"login.usgovcloudapi.net", "login-us.microsoftonline.com"},
	"login.microsoftonline.com": {"login.microsoft.com", "login.windows.net", "sts.windows.net"},
}

// isAuthorityOf reports whether an authority is that of a cloud, by any of its names.
func isAuthorityOf(c cloud.Configuration, authority string) bool {
	known := hostOf(c.ActiveDirectoryAuthorityHost)
	return hostOf(authority) == known || slices.Contains(otherAuthorities[known], hostOf(authority))
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// isMicrosoft reports whether Microsoft's instance discovery knows the authority.
func isMicrosoft(authority string) bool {
	return slices.ContainsFunc([]cloud.Configuration{cloud.AzurePublic, cloud.AzureGovernment, cloud.AzureChina},
		func(c cloud.Configuration) bool {
			return isAuthorityOf(c, authority)
		})
}

// sender sends azcore's requests.
type sender struct {
	client *http.Client
	most   int64 // bytes of an answer, which azcore reads into memory; 0 for answers that are streamed
}

// mostAnswer is the size in bytes of the largest answer that is read into memory.
const mostAnswer = 64 << 20

func (s sender) Do(req *http.Request) (*http.Response, error) {
	resp, err := s.client.Do(req)
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return nil, &unsent{err} // azcore would send it again, in vain
	case err == nil && s.most > 0:
		resp.Body = http.MaxBytesReader(nil, resp.Body, s.most)
	}
	return resp, err
}

// tryTimeout bounds a call of Resource Manager. None takes longer, since calls only begin
// operations.
const tryTimeout = 2 * time.Minute

// longestRetry is the longest wait after which azcore repeats a request, all of which are safe to
// repeat. If Azure asks for a longer one, the caller decides, who knows how many others wait.
const longestRetry = 10 * time.Second

// explained is a credential whose errors differ from those of the call that needed the token.
type explained struct{ credential azcore.TokenCredential }

// GetToken returns a token, or a *tokenError.
func (x *explained) GetToken(ctx context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := x.credential.GetToken(ctx, opts)
	if err != nil {
		err = &tokenError{err}
	}
	return token, err
}

type tokenError struct{ err error }

func (e *tokenError) Error() string { return e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

// NonRetriable tells azcore that the credential has done all retries itself.
func (e *tokenError) NonRetriable() {}
