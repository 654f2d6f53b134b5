// Package awsclient loads one AWS SDK configuration for all clients of a package, including those
// that fetch credentials.
package awsclient

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/defaults"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Settings are a program's own choices, which add to the environment and the configuration files.
type Settings struct {
	Region     string
	Profile    string       // empty: that of the environment
	HTTPClient *http.Client // carries every call; nil: a client made for the SDK, with AWS_CA_BUNDLE
}

// Load reads the environment and the configuration files. It sends nothing, unless
// AWS_DEFAULTS_MODE is "auto": then the SDK asks the machine's metadata service. The HTTPClient of
// the result is an *http.Client.
func Load(ctx context.Context, s Settings, more ...func(*config.LoadOptions) error) (aws.Config, error) {
	// A job may be silent for 15 minutes, so reads have no deadline of their own. AWS_CA_BUNDLE
	// requires this type of client: the SDK refuses any other when it is set.
	buildable := awshttp.NewBuildableClient().WithReadTimeout(0).WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 2*keptConnections, keptConnections
	})
	way := &way{client: s.HTTPClient}
	options := []func(*config.LoadOptions) error{
		config.WithRegion(s.Region), config.WithHTTPClient(buildable), config.WithAppID("blueprint-serverless"),
		config.WithAPIOptions([]func(*middleware.Stack) error{way.lead}),
	}
	if s.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.Profile))
	}
	loaded, err := config.LoadDefaultConfig(ctx, append(options, more...)...)
	if err != nil {
		return aws.Config{}, err
	}
	if way.client == nil {
		way.client = freeze(loaded.HTTPClient.(*awshttp.BuildableClient), loaded.DefaultsMode)
	}
	loaded.HTTPClient = way.client
	if loaded.Credentials != nil {
		loaded.Credentials = explained{loaded.Credentials}
	}
	return loaded, nil
}

const keptConnections = 256 // many calls at once go to one host

// freeze builds the HTTP client with the timeouts that the SDK itself would use for the configured
// defaults mode. Unlike those of an SDK client, its idle connections can be closed. It follows no
// redirects, because a signature is for one address. It speaks HTTP/1.1, because Go's HTTP/2 client
// may resend a request after a server resets its stream, and an invocation must not be repeated.
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

// way sends the requests of clients that were made while the configuration was loaded, which are
// those that fetch credentials, through the HTTP client of all others.
type way struct{ client *http.Client }

func (w *way) lead(stack *middleware.Stack) error {
	if _, signed := stack.Finalize.Get("Signing"); !signed {
		return nil // the machine's metadata, which is no service of AWS, and has short timeouts of its own
	}
	return stack.Deserialize.Add(w, middleware.After)
}

// ID implements middleware.DeserializeMiddleware.
func (w *way) ID() string { return "OneHTTPClient" }

// HandleDeserialize sends the request itself, so that the client's own HTTP client is not used.
func (w *way) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, _ middleware.DeserializeHandler) (
	out middleware.DeserializeOutput, m middleware.Metadata, err error,
) {
	out.RawResponse, m, err = smithyhttp.NewClientHandlerWithOptions(w.client).Handle(ctx, in.Request)
	return out, m, err
}
