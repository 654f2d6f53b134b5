package awssign

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
)

// Error is an error that a service described, in any of the forms of AWS's protocols. It is a smithy.APIError, as those of the SDK are.
type Error struct {
	Status        int
	Code, Message string
}

type described struct {
	Code    string `xml:"Code"`
	Message string `xml:"Message"`
}

func newError(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode}
	var asXML struct {
		described             // of S3
		Error     described   `xml:"Error"`        // of IAM and STS
		Errors    []described `xml:"Errors>Error"` // of EC2
	}
	var asJSON struct {
		Type    string `json:"__type"`
		Code    string `json:"code"`
		Message string `json:"message"` // some services write Message, which is the same to this decoder
	}
	switch {
	case json.Unmarshal(body, &asJSON) == nil:
		e.Message = asJSON.Message
		for _, code := range []string{resp.Header.Get("X-Amzn-Errortype"), asJSON.Type, asJSON.Code} {
			if e.Code == "" {
				e.Code = bare(code)
			}
		}
	case xml.Unmarshal(body, &asXML) == nil:
		for _, d := range append([]described{asXML.described, asXML.Error}, asXML.Errors...) {
			if e.Code == "" {
				e.Code, e.Message = d.Code, d.Message
			}
		}
	}
	if e.Code == "" { // the answer to a HEAD has no body
		e.Code = strings.ReplaceAll(http.StatusText(resp.StatusCode), " ", "")
	}
	return e
}

// bare cuts off what may stand around a code: "namespace#Code:http://reference/".
func bare(code string) string {
	code, _, _ = strings.Cut(code, ":")
	return strings.TrimSpace(code[strings.LastIndexByte(code, '#')+1:])
}

// Error says what the service said.
func (e *Error) Error() string {
	return fmt.Sprintf("status %d, %s: %s", e.Status, e.Code, e.Message)
}

// HTTPStatusCode is the status of the answer, as the errors of the SDK have it.
func (e *Error) HTTPStatusCode() int { return e.Status }

// ErrorCode is part of smithy.APIError.
func (e *Error) ErrorCode() string { return e.Code }

// ErrorMessage is part of smithy.APIError.
func (e *Error) ErrorMessage() string { return e.Message }

// ErrorFault is part of smithy.APIError.
func (e *Error) ErrorFault() smithy.ErrorFault {
	if e.Status >= http.StatusInternalServerError {
		return smithy.FaultServer
	}
	return smithy.FaultClient
}

var errNoProvider = errors.New("the configuration names no place to look")

// CredentialsError says that there are no credentials: that none were found, and how to give some, or
// that the place where they come from gives none at the moment.
type CredentialsError struct{ Err error }

// Missing reports whether no place has credentials. The SDK asks the machine's metadata last, so that
// a failure there means that.
func (e *CredentialsError) Missing() bool {
	if errors.Is(e.Err, errNoProvider) {
		return true
	}
	var operation *smithy.OperationError
	return errors.As(e.Err, &operation) && operation.Service() == "ec2imds"
}

func (e *CredentialsError) Error() string {
	var session *ssocreds.InvalidTokenError
	switch {
	case errors.As(e.Err, &session):
		return fmt.Sprintf("the sign-in at IAM Identity Center has expired: sign in again with `aws sso login` (%v)", e.Err)
	case !e.Missing():
		return fmt.Sprintf("the AWS credentials could not be fetched (%v)", e.Err)
	}
	return fmt.Sprintf("no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or sign in with `aws sso login`, or give the machine a role (%v)", e.Err)
}

// Unwrap returns what the place that was asked last said.
func (e *CredentialsError) Unwrap() error { return e.Err }

// Explain makes failures to find credentials *CredentialsError, which the SDK's chain reports as failures of the last place it looked at. That the context has
// ended is no such failure.
func Explain(provider aws.CredentialsProvider) aws.CredentialsProvider {
	if _, already := provider.(explained); already {
		return provider
	}
	return explained{provider}
}

type explained struct{ aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (c explained) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		return found, &CredentialsError{err}
	}
	return found, err
}
