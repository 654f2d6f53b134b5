package ec2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// client signs and sends the few requests that are needed.
type client struct {
	aws    aws.Config
	region string
	pace   pace
}

// request is a request that is safe to repeat.
type request struct {
	service string // the SDK's id of the service: EC2, SSM, S3
	action  string // for errors
	method  string
	path    string // escaped, with a query
	header  map[string]string
	body    []byte
	file    *faas.Binary // the body, in place of body
}

const (
	maxAttempts = 5
	maxAnswer   = 4 << 20
)

// send signs and sends a request until it is answered, and returns the answer's body. A failure that the service describes is an *apiError.
func (c *client) send(ctx context.Context, r request) ([]byte, error) {
	lost := false
	wait := c.pace.retry
	for attempt := 1; ; attempt++ {
		body, err := c.sendOnce(ctx, r)
		if err == nil {
			return body, nil
		}
		var api *apiError
		answered := errors.As(err, &api)
		unsent := errors.Is(err, errCredentials)
		lost = lost || !answered && !unsent || answered && api.status >= http.StatusInternalServerError && !api.throttled()
		if attempt == maxAttempts || ctx.Err() != nil || answered && !api.transient() || unsent {
			return nil, &callError{action: r.action, lost: lost, err: err}
		}
		if pause(ctx, wait) != nil {
			return nil, &callError{action: r.action, lost: lost, err: err}
		}
		wait *= 2
	}
}

// pause waits for d, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errCredentials = errors.New("no credentials of AWS can be had")

func (c *client) sendOnce(ctx context.Context, r request) ([]byte, error) {
	base, err := c.endpoint(ctx, r.service)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(r.body)
	sum := hex.EncodeToString(digest[:])
	if r.file != nil {
		f, err := os.Open(r.file.Path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		req.Body, req.GetBody = io.NopCloser(f), nil
		req.ContentLength, sum = r.file.Size, r.file.SHA256
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	if r.service == "S3" {
		req.Header.Set("X-Amz-Content-Sha256", sum)
	}
	credentials, err := c.credentials(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.signer(r.service).SignHTTP(ctx, credentials, req, sum, strings.ToLower(r.service), c.region, time.Now().UTC()); err != nil {
		return nil, err
	}
	resp, err := c.aws.HTTPClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, newAPIError(resp.StatusCode, body)
	}
	return body, nil
}

func (c *client) credentials(ctx context.Context) (aws.Credentials, error) {
	if c.aws.Credentials == nil {
		return aws.Credentials{}, errCredentials
	}
	credentials, err := c.aws.Credentials.Retrieve(ctx)
	if err != nil {
		return credentials, fmt.Errorf("%w: %w", errCredentials, err)
	}
	return credentials, nil
}

// signer returns the signer for a service. S3 alone takes paths as they are.
func (c *client) signer(service string) *v4.Signer {
	return v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "S3" })
}

// presign returns a URL with which anyone can fetch the object for some time.
func (c *client) presign(ctx context.Context, path string, valid time.Duration) (string, error) {
	base, err := c.endpoint(ctx, "S3")
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s?X-Amz-Expires=%d", base, path, int(valid.Seconds())), nil)
	if err != nil {
		return "", err
	}
	credentials, err := c.credentials(ctx)
	if err != nil {
		return "", err
	}
	url, _, err := c.signer("S3").PresignHTTP(ctx, credentials, req, "UNSIGNED-PAYLOAD", "s3", c.region, time.Now().UTC())
	return url, err
}

// endpoint is where a service is: where the environment or the profile says, as for the SDK's own clients, else at its usual place.
func (c *client) endpoint(ctx context.Context, service string) (string, error) {
	usual := "https://" + strings.ToLower(service) + "." + c.region + "." + domain(c.region)
	for _, source := range c.aws.ConfigSources {
		if s, ok := source.(interface {
			GetIgnoreConfiguredEndpoints(context.Context) (bool, bool, error)
		}); ok {
			ignore, found, err := s.GetIgnoreConfiguredEndpoints(ctx)
			if err != nil {
				return "", err
			}
			if found && ignore {
				return usual, nil
			}
		}
	}
	for _, source := range c.aws.ConfigSources {
		if s, ok := source.(interface {
			GetServiceBaseEndpoint(context.Context, string) (string, bool, error)
		}); ok {
			url, found, err := s.GetServiceBaseEndpoint(ctx, service)
			if err != nil {
				return "", err
			}
			if found && url != "" {
				return strings.TrimSuffix(url, "/"), nil
			}
		}
	}
	if c.aws.BaseEndpoint != nil {
		return strings.TrimSuffix(*c.aws.BaseEndpoint, "/"), nil
	}
	return usual, nil
}

// domain is the DNS name under which the region's services are.
func domain(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "amazonaws.com.cn"
	case strings.HasPrefix(region, "us-isob-"):
		return "sc2s.sgov.gov"
	case strings.HasPrefix(region, "us-iso-"):
		return "c2s.ic.gov"
	}
	return "amazonaws.com"
}

// callError is the failure of an action.
type callError struct {
	action string
	lost   bool // an attempt was not answered, and may have had its effect
	err    error
}

func (e *callError) Error() string { return e.action + ": " + e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

// apiError is an error that a service described, in any of the forms of AWS's protocols.
type apiError struct {
	status        int
	code, message string
}

func newAPIError(status int, body []byte) *apiError {
	e := &apiError{status: status}
	type described struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	}
	var asXML struct {
		described             // of S3
		Errors    []described `xml:"Errors>Error"` // of EC2
	}
	var asJSON struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	switch {
	case json.Unmarshal(body, &asJSON) == nil && asJSON.Type != "":
		e.code, e.message = asJSON.Type[strings.LastIndexByte(asJSON.Type, '#')+1:], asJSON.Message
	case xml.Unmarshal(body, &asXML) == nil:
		e.code, e.message = asXML.Code, asXML.Message
		if len(asXML.Errors) > 0 {
			e.code, e.message = asXML.Errors[0].Code, asXML.Errors[0].Message
		}
	}
	if e.code == "" {
		e.code = strings.ReplaceAll(http.StatusText(status), " ", "")
	}
	return e
}

func (e *apiError) Error() string {
	return fmt.Sprintf("status %d, %s: %s", e.status, e.code, e.message)
}

func (e *apiError) throttled() bool {
	switch e.code {
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown", "RequestThrottled":
		return true
	}
	return e.status == http.StatusTooManyRequests
}

func (e *apiError) transient() bool {
	return e.throttled() || e.status >= http.StatusInternalServerError && e.code != codeNoCapacity
}

const (
	codeNotFound   = "InvalidInstanceID.NotFound"
	codeNoCapacity = "InsufficientInstanceCapacity"
)

// codeOf sorts a failure.
func codeOf(err error) faas.Code {
	var known *faas.Error
	var api *apiError
	switch {
	case errors.As(err, &known):
		return known.Code
	case errors.Is(err, errCredentials):
		return faas.ErrPermissionDenied
	case errors.As(err, &api):
		return api.sort()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return faas.ErrTimeout
	}
	return faas.ErrUnavailable // no answer came
}

func (e *apiError) sort() faas.Code {
	switch e.code {
	case codeNotFound, "NoSuchBucket", "NoSuchKey", "ParameterNotFound":
		return faas.ErrNotFound
	case "IdempotentParameterMismatch", "IncorrectInstanceState", "OperationNotPermitted":
		return faas.ErrConflict
	case codeNoCapacity, "InstanceLimitExceeded", "VcpuLimitExceeded":
		return faas.ErrUnavailable
	case "UnauthorizedOperation", "AuthFailure", "OptInRequired", "AccessDenied", "AccessDeniedException", "SignatureDoesNotMatch", "ExpiredToken":
		return faas.ErrPermissionDenied
	}
	switch {
	case e.throttled():
		return faas.ErrThrottled
	case e.status == http.StatusUnauthorized || e.status == http.StatusForbidden:
		return faas.ErrPermissionDenied
	case e.status == http.StatusNotFound:
		return faas.ErrNotFound
	case e.status >= http.StatusInternalServerError:
		return faas.ErrUnavailable
	}
	return faas.ErrInvalidArgument
}

// fail makes the *faas.Error of a failure.
func fail(op string, err error) *faas.Error {
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	return &faas.Error{Op: op, JobID: faas.NoJob, Code: codeOf(err), Err: err}
}
