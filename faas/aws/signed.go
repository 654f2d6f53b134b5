//go:build !faas_only || faas_aws

package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
)

// The few calls that a function needs outside Lambda (a role, an object, a log group) are signed here with the SDK's signer, in place of
// linking three more clients of the SDK, which would make every program that uses this package 2.3 MB bigger.

// remote is a service of AWS as one request needs it.
type remote struct {
	id      string // as the SDK names it, for AWS_ENDPOINT_URL_<id>
	signing string
	region  string
	host    string
}

// signedRequest is a request that is safe to repeat.
type signedRequest struct {
	operation string // for errors
	method    string
	path      string // escaped, with a query
	header    map[string]string
	body      []byte
	// open gives a body that is too big to hold, with its length and hex SHA-256.
	open   func() (io.ReadCloser, error)
	size   int64
	sha256 string
}

const (
	maxAttempts     = 4
	maxRemoteAnswer = 1 << 20
)

// send signs and sends a request until it is answered, and returns the answer's body. A failure that the service describes is a *remoteError.
func (e *Executor) send(ctx context.Context, to remote, r signedRequest) ([]byte, error) {
	wait := e.pace.within(e.pace.settle)
	for attempt := 1; ; attempt++ {
		var body []byte
		send := func(ctx context.Context) (err error) {
			body, err = e.sendOnceSigned(ctx, to, r)
			return err
		}
		var err error
		if r.method == http.MethodGet || r.method == http.MethodHead {
			err = send(ctx)
		} else {
			err = e.finish(ctx, send)
		}
		if err == nil {
			return body, nil
		}
		err = &smithy.OperationError{ServiceID: to.id, OperationName: r.operation, Err: err}
		if attempt == maxAttempts || !transient(err) {
			return nil, err
		}
		if more, perr := wait.pause(ctx); perr != nil || !more {
			return nil, err
		}
	}
}

func (e *Executor) sendOnceSigned(ctx context.Context, to remote, r signedRequest) ([]byte, error) {
	base, err := e.endpoint(ctx, to)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	sum := r.sha256
	if r.open != nil {
		if req.Body, err = r.open(); err != nil {
			return nil, err
		}
		req.ContentLength, req.GetBody = r.size, r.open
	} else {
		digest := sha256.Sum256(r.body)
		sum = hex.EncodeToString(digest[:])
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	if to.signing == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", sum)
	}
	credentials, err := e.aws.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = to.signing == "s3" })
	if err := signer.SignHTTP(ctx, credentials, req, sum, to.signing, to.region, time.Now().UTC()); err != nil {
		return nil, err
	}
	resp, err := e.aws.HTTPClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, newRemoteError(resp, body)
	}
	return body, nil
}

// endpoint is where a service is: where the environment or the profile says, as for the SDK's own clients, else at its usual place.
func (e *Executor) endpoint(ctx context.Context, to remote) (string, error) {
	for _, source := range e.aws.ConfigSources {
		if s, ok := source.(interface {
			GetIgnoreConfiguredEndpoints(context.Context) (bool, bool, error)
		}); ok {
			ignore, found, err := s.GetIgnoreConfiguredEndpoints(ctx)
			if err != nil {
				return "", err
			}
			if found && ignore {
				return "https://" + to.host, nil
			}
		}
	}
	for _, source := range e.aws.ConfigSources {
		if s, ok := source.(interface {
			GetServiceBaseEndpoint(context.Context, string) (string, bool, error)
		}); ok {
			url, found, err := s.GetServiceBaseEndpoint(ctx, to.id)
			if err != nil {
				return "", err
			}
			if found && url != "" {
				return strings.TrimSuffix(url, "/"), nil
			}
		}
	}
	if e.aws.BaseEndpoint != nil {
		return strings.TrimSuffix(*e.aws.BaseEndpoint, "/"), nil
	}
	return "https://" + to.host, nil
}

// domain is the DNS name under which the region's services are.
func (e *Executor) domain() string {
	switch e.partition() {
	case "aws-cn":
		return "amazonaws.com.cn"
	case "aws-iso":
		return "c2s.ic.gov"
	case "aws-iso-b":
		return "sc2s.sgov.gov"
	}
	return "amazonaws.com"
}

// partition is the part of AWS that the region is in.
func (e *Executor) partition() string {
	switch {
	case strings.HasPrefix(e.region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(e.region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(e.region, "us-isob-"):
		return "aws-iso-b"
	case strings.HasPrefix(e.region, "us-iso-"):
		return "aws-iso"
	}
	return "aws"
}

// remoteError is an error that a service described, in any of the forms of AWS's protocols. It is a smithy.APIError, as those of the SDK are.
type remoteError struct {
	status        int
	code, message string
}

func newRemoteError(resp *http.Response, body []byte) *remoteError {
	e := &remoteError{status: resp.StatusCode}
	var asXML struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
		Error   struct {
			Code    string `xml:"Code"`
			Message string `xml:"Message"`
		} `xml:"Error"`
	}
	var asJSON struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	switch {
	case json.Unmarshal(body, &asJSON) == nil && asJSON.Type != "":
		e.code, e.message = asJSON.Type[strings.LastIndexByte(asJSON.Type, '#')+1:], asJSON.Message
	case xml.Unmarshal(body, &asXML) == nil:
		e.code, e.message = asXML.Code+asXML.Error.Code, asXML.Message+asXML.Error.Message
	}
	if e.code == "" {
		e.code = strings.ReplaceAll(http.StatusText(resp.StatusCode), " ", "")
	}
	return e
}

func (e *remoteError) Error() string {
	return fmt.Sprintf("https response error StatusCode: %d, api error %s: %s", e.status, e.code, e.message)
}
func (e *remoteError) HTTPStatusCode() int  { return e.status }
func (e *remoteError) ErrorCode() string    { return e.code }
func (e *remoteError) ErrorMessage() string { return e.message }
func (e *remoteError) ErrorFault() smithy.ErrorFault {
	if e.status >= http.StatusInternalServerError {
		return smithy.FaultServer
	}
	return smithy.FaultClient
}
