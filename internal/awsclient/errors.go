package awsclient

import (
	"errors"
	"net"
	"net/url"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// APICode returns the service's error code, or "" if no service refused.
func APICode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Status returns the HTTP status of the answer that caused the error, or 0 if there was none.
func Status(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

// RetryAfter returns how long the answer that caused the error asks to wait, or 0.
func RetryAfter(err error) time.Duration {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Response == nil {
		return 0
	}
	return httputil.RetryAfter(answer.Response.Header, time.Now())
}

// Unanswered reports whether a request got no answer because the connection failed or broke.
func Unanswered(err error) bool {
	var (
		send *smithyhttp.RequestSendError
		conn *net.OpError
		dns  *net.DNSError
		url  *url.Error
	)
	return errors.As(err, &send) || errors.As(err, &conn) || errors.As(err, &dns) || errors.As(err, &url)
}
