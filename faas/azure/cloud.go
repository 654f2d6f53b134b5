//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"os"
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
	// publicAudience is what tokens for Resource Manager are for, also where an emulator plays it.
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
		Cloud: where, Transport: e.http,
		Retry:     policy.RetryOptions{RetryDelay: e.pace.retry, MaxRetryDelay: longestRetry, TryTimeout: tryTimeout, ShouldRetry: shouldRetry},
		Telemetry: policy.TelemetryOptions{ApplicationID: moduleName},
	}
	credential := set.credential
	if credential == nil {
		credential, err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions:            policy.ClientOptions{Cloud: where, Transport: e.http, Retry: client.Retry, Telemetry: client.Telemetry},
			DisableInstanceDiscovery: !isMicrosoft(where.ActiveDirectoryAuthorityHost),
		})
		if err != nil {
			return invalid("the credentials that the environment describes cannot be used: %w", err)
		}
	}
	known := &explained{credential}
	credential = known
	e.authority = where.ActiveDirectoryAuthorityHost
	e.insights = e.insightsPipeline(known, client)
	if e.arm, err = arm.NewClient(moduleName, moduleVersion, credential, &arm.ClientOptions{ClientOptions: client}); err != nil {
		return invalid("the cloud configuration cannot be used: %w", err)
	}
	// The publish endpoint takes the same tokens, and knows nothing of resource providers.
	e.scm, err = armruntime.NewPipeline(moduleName, moduleVersion, credential, runtime.PipelineOptions{}, &arm.ClientOptions{ClientOptions: client, DisableRPRegistration: true})
	if err != nil {
		return invalid("the cloud configuration cannot be used: %w", err)
	}
	return nil
}

// cloud returns where authority and Resource Manager are: by option, else by the environment, else those of the public cloud.
func (e *Executor) cloud(set settings) (cloud.Configuration, error) {
	where := cloudOf(cmp.Or(os.Getenv(authorityEnv), cloud.AzurePublic.ActiveDirectoryAuthorityHost))
	if set.cloud != nil {
		where = *set.cloud
	}
	if where.ActiveDirectoryAuthorityHost == "" {
		return where, invalid("the cloud configuration has no authority host")
	}
	manager := where.Services[cloud.ResourceManager]
	endpoint := e.options.managerEndpoint
	if endpoint == "" && set.cloud == nil {
		endpoint = os.Getenv(ResourceManagerEnv)
	}
	if endpoint != "" {
		manager.Endpoint = endpoint
	}
	if e.options.managerAudience != "" {
		manager.Audience = e.options.managerAudience
	}
	if manager.Audience == "" {
		manager.Audience = publicAudience
	}
	for name, raw := range map[string]string{"authority host": where.ActiveDirectoryAuthorityHost, "Resource Manager endpoint": manager.Endpoint} {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return where, invalid("the %s has to be a URL that begins with https:// and holds no user name: tokens are sent there", name)
		}
	}
	manager.Endpoint = strings.TrimRight(manager.Endpoint, "/")
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: where.ActiveDirectoryAuthorityHost,
		Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: manager},
	}, nil
}

// cloudOf returns the cloud that an authority belongs to. An unknown authority is taken for that of an emulator or of a private cloud, whose Resource
// Manager has to be given.
func cloudOf(authority string) cloud.Configuration {
	for _, c := range []cloud.Configuration{cloud.AzureChina, cloud.AzureGovernment} {
		if hostOf(c.ActiveDirectoryAuthorityHost) == hostOf(authority) {
			return c
		}
	}
	manager := cloud.AzurePublic.Services[cloud.ResourceManager]
	manager.Audience = publicAudience // azcore has the older name, which counts as well
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: authority, Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: manager},
	}
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
	return slices.Contains([]string{
		"login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net", "login.microsoftonline.us", "login.usgovcloudapi.net",
		"login.chinacloudapi.cn", "login.partner.microsoftonline.cn", "login-us.microsoftonline.com",
	}, hostOf(authority))
}

// tryTimeout bounds a call of Resource Manager, none of which works for longer: they begin operations.
const tryTimeout = 2 * time.Minute

// longestRetry is how long a request waits to be sent again. Where Azure asks for more, the caller decides.
const longestRetry = 10 * time.Second

// shouldRetry says which requests azcore sends again: all that it sends can be repeated. Of throttling the caller is told where the wait is long or
// unknown, since it knows how many others are waiting.
func shouldRetry(resp *http.Response, err error) bool {
	if err != nil {
		var certificate *tls.CertificateVerificationError
		return !errors.As(err, &certificate)
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return retryAfter(resp.Header) <= longestRetry
	case http.StatusTooManyRequests:
		wait := retryAfter(resp.Header)
		return wait > 0 && wait <= longestRetry
	}
	return false
}

// explained is a credential whose errors can be told from those of the call that needed the token.
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
