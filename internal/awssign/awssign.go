// Package awssign signs and sends single requests to services of AWS with the SDK's signer and configuration, for packages that need a few calls of a service and
// would link its whole client for them.
package awssign

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Client sends requests as an SDK configuration says. It repeats none.
type Client struct {
	Config aws.Config
}

// Service is a service of AWS as one request needs it.
type Service struct {
	ID      string // as the SDK names it, for AWS_ENDPOINT_URL_<ID>
	Signing string // the name that requests are signed for, and the first part of the host
	Region  string // that requests are signed for
	Host    string
}

// Request is one request.
type Request struct {
	Operation string // for errors
	Method    string
	Path      string // escaped, with a query
	Header    map[string]string
	Body      []byte
	// Open gives a body that is too big to hold, with its length and hex SHA-256.
	Open   func() (io.ReadCloser, error)
	Size   int64
	SHA256 string
	// ReadOnly says that it changes nothing, whatever its method: nobody has to wait for its answer.
	ReadOnly bool
	Limit    int64 // of the answer, in bytes; 0: maxAnswer
	// Seen, if not nil, is called with the header of the answer, whatever it is.
	Seen func(http.Header)
}

const maxAnswer = 4 << 20

// Send signs and sends a request once, and returns the answer's body. A failure that the service describes is an *Error, and one to find credentials a
// *CredentialsError: then nothing was sent.
func (c *Client) Send(ctx context.Context, to Service, r Request) ([]byte, error) {
	credentials, err := c.credentials(ctx)
	if err != nil {
		return nil, err
	}
	base, err := c.endpoint(ctx, to)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, base+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	sum := r.SHA256
	if r.Open == nil {
		digest := sha256.Sum256(r.Body)
		sum = hex.EncodeToString(digest[:])
	} else {
		if req.Body, err = r.Open(); err != nil {
			return nil, err
		}
		req.ContentLength, req.GetBody = r.Size, r.Open
	}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	if to.Signing == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", sum)
	}
	if err := signer(to).SignHTTP(ctx, credentials, req, sum, to.Signing, to.Region, time.Now().UTC()); err != nil {
		_ = req.Body.Close() // nothing was sent
		return nil, err
	}
	resp, err := c.Config.HTTPClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if r.Seen != nil {
		r.Seen(resp.Header)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, cmp.Or(r.Limit, maxAnswer)))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, newError(resp, body)
	}
	return body, nil
}

// Presign returns a URL with which anyone can GET the path for some time, as long as the credentials are valid. It sends nothing.
func (c *Client) Presign(ctx context.Context, to Service, path string, valid time.Duration) (string, error) {
	credentials, err := c.credentials(ctx)
	if err != nil {
		return "", err
	}
	base, err := c.endpoint(ctx, to)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s?X-Amz-Expires=%d", base, path, int(valid.Seconds())), nil)
	if err != nil {
		return "", err
	}
	url, _, err := signer(to).PresignHTTP(ctx, credentials, req, "UNSIGNED-PAYLOAD", to.Signing, to.Region, time.Now().UTC())
	return url, err
}

// signer returns the signer for a service. S3 alone takes paths as they are.
func signer(to Service) *v4.Signer {
	return v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = to.Signing == "s3" })
}

func (c *Client) credentials(ctx context.Context) (aws.Credentials, error) {
	provider := c.Config.Credentials
	if provider == nil {
		return aws.Credentials{}, &CredentialsError{errNoProvider}
	}
	return Explain(provider).Retrieve(ctx)
}

// endpoint is where a service is: where the environment or the profile says, as for the SDK's own clients, else at its usual place.
func (c *Client) endpoint(ctx context.Context, to Service) (string, error) {
	usual := "https://" + to.Host
	ignore, found, err := first(c.Config.ConfigSources, func(s interface {
		GetIgnoreConfiguredEndpoints(context.Context) (bool, bool, error)
	}) (bool, bool, error) {
		return s.GetIgnoreConfiguredEndpoints(ctx)
	})
	if err != nil {
		return "", err
	}
	if !found || !ignore {
		url, found, err := first(c.Config.ConfigSources, func(s interface {
			GetServiceBaseEndpoint(context.Context, string) (string, bool, error)
		}) (string, bool, error) {
			url, found, err := s.GetServiceBaseEndpoint(ctx, to.ID)
			return url, found && url != "", err
		})
		switch {
		case err != nil:
			return "", err
		case found:
			return strings.TrimSuffix(url, "/"), nil
		case c.Config.BaseEndpoint != nil:
			return strings.TrimSuffix(*c.Config.BaseEndpoint, "/"), nil
		}
	}
	fips, _, err := first(c.Config.ConfigSources, func(s interface {
		GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error)
	}) (aws.FIPSEndpointState, bool, error) {
		return s.GetUseFIPSEndpoint(ctx)
	})
	if err != nil {
		return "", err
	}
	if fips == aws.FIPSEndpointStateEnabled {
		usual = "https://" + fipsHost(to)
	}
	return usual, nil
}

// first asks the sources that can tell until one does, in the order that the SDK asks them in.
func first[S, V any](sources []any, ask func(S) (V, bool, error)) (V, bool, error) {
	var none V
	for _, source := range sources {
		if s, ok := source.(S); ok {
			if value, found, err := ask(s); err != nil || found {
				return value, found, err
			}
		}
	}
	return none, false, nil
}
