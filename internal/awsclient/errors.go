package awsclient

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// APICode returns the service's own code of an error, empty if a service did not refuse.
func APICode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Status returns the HTTP status of the answer that an error is about, 0 if there was none.
func Status(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

// RetryAfter returns how long the answer that an error is about asks to wait, 0 if it does not say.
func RetryAfter(err error) time.Duration {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Response == nil {
		return 0
	}
	return httputil.RetryAfter(answer.Response.Header, time.Now())
}

// Unanswered reports whether a request was not answered: the connection was not made, or broke.
func Unanswered(err error) bool {
	var (
		send *smithyhttp.RequestSendError
		conn *net.OpError
		dns  *net.DNSError
		url  *url.Error
	)
	return errors.As(err, &send) || errors.As(err, &conn) || errors.As(err, &dns) || errors.As(err, &url)
}

// Ended reports whether an error is that of a context that has ended. Timeouts of the network, which
// claim to be the same to errors.Is, are not.
func Ended(err error) bool {
	if err == context.Canceled || err == context.DeadlineExceeded {
		return true
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return Ended(err.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(err.Unwrap(), Ended)
	}
	return false
}
