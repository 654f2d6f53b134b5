// Package kit holds what providers share, so that a fault is fixed once: classing refusals, waiting
// for a state, changes that were sent and not answered, running something once for many callers,
// hiding secrets in errors, naming and checking functions, declaring options, and warming.
package kit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Class says whether, and how, it makes sense to try again after a refusal.
type Class int

// The classes. Those from Outage on pass by themselves.
const (
	Refused   Class = iota // it will be the same again
	Quota                  // it would take more than the account may have, until somebody raises that
	Exists                 // there is one already
	Absent                 // it does not exist, which a read that is behind says too
	Denied                 // the credential is not taken, which services say of a good one now and then
	Outage                 // the network, or the service, does not work at the moment
	Throttled              // too many requests; see Refusal.RetryAfter
	Busy                   // the provider is at work on another change
	Settling               // what the provider makes, or tells all of itself, is not there yet: minutes
)

// Passes reports whether the refusal passes by itself.
func (c Class) Passes() bool { return c >= Outage }

// Refusal is the meaning of an answer that is not a success. The provider's [Rules] class each
// answer once, and everything that waits, repeats or reports relies on that.
type Refusal struct {
	Class  Class
	Code   faas.Code
	Remedy string // what mends it, for people; may be empty
	// RetryAfter is how long the provider asked to wait, or 0.
	RetryAfter time.Duration
}

// Answer is what a provider answered when it refused.
type Answer struct {
	Status     int    // of HTTP; 0 for the end of an operation that was begun
	Code       string // the provider's own; may be empty
	Text       string // its words
	RetryAfter time.Duration
}

// Rule gives a meaning to some answers. An answer matches if it meets every condition that is set.
type Rule struct {
	Status []int    // it has one of these
	Code   []string // it has one of these
	Text   []string // its words have one of these in them, in whatever case; they are lower-case here
	When   func(Answer) bool
	Means  Refusal
	Stays  bool // it will be the same again, though others with its code pass
}

func (r Rule) matches(a Answer) bool {
	in := func(part string) bool { return strings.Contains(a.Text, part) }
	return (r.Status == nil || slices.Contains(r.Status, a.Status)) &&
		(r.Code == nil || slices.Contains(r.Code, a.Code)) &&
		(r.Text == nil || slices.ContainsFunc(r.Text, in)) &&
		(r.When == nil || r.When(a))
}

// Rules give answers a meaning beyond their status. The first rule that matches counts. If its
// Means has no Code, the status decides the code; if it has no Class, the code decides the class.
type Rules []Rule

// Of returns the meaning of an answer.
func (rules Rules) Of(a Answer) Refusal {
	means := ofStatus(a.Status)
	words := a
	words.Text = strings.ToLower(a.Text)
	for _, r := range rules {
		if !r.matches(words) {
			continue
		}
		if r.Means.Code != "" {
			means.Code, means.Class = r.Means.Code, classOf(r.Means.Code)
		}
		if r.Means.Class != 0 {
			means.Class = r.Means.Class
		}
		if r.Stays {
			means.Class = Refused
		}
		means.Remedy = r.Means.Remedy
		break
	}
	means.RetryAfter = a.RetryAfter
	return means
}

// classOf returns the class of a code about which nothing else is known.
func classOf(code faas.Code) Class {
	switch code {
	case faas.ErrNotFound:
		return Absent
	case faas.ErrAlreadyExists:
		return Exists
	case faas.ErrThrottled:
		return Throttled
	case faas.ErrUnavailable:
		return Outage
	case faas.ErrConflict:
		return Busy
	}
	return Refused
}

// ofStatus returns the meaning of an HTTP status about which nothing else is known.
func ofStatus(status int) Refusal {
	of := func(code faas.Code) Refusal { return Refusal{Class: classOf(code), Code: code} }
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusLengthRequired:
		return of(faas.ErrInvalidArgument)
	case http.StatusUnauthorized:
		return Refusal{Class: Denied, Code: faas.ErrPermissionDenied}
	case http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusPaymentRequired:
		return of(faas.ErrPermissionDenied)
	case http.StatusNotFound, http.StatusGone:
		return of(faas.ErrNotFound)
	case http.StatusConflict, http.StatusLocked:
		return of(faas.ErrConflict)
	case http.StatusPreconditionFailed: // what was read is out of date: it has to be read again
		return Refusal{Class: Refused, Code: faas.ErrConflict}
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return of(faas.ErrTooLarge)
	case http.StatusTooManyRequests:
		return of(faas.ErrThrottled)
	case http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return of(faas.ErrUnsupported)
	case http.StatusRequestTimeout: // of one request: the caller's deadline has not passed
		return of(faas.ErrUnavailable)
	}
	switch {
	case status >= 300 && status < 400: // nobody follows it with credentials
		return of(faas.ErrInvalidArgument)
	case status >= 400 && status < 500: // RFC 9110: what is not known is to be taken for a 400
		return of(faas.ErrInvalidArgument)
	}
	return of(faas.ErrUnavailable)
}

// OfError returns the meaning of the error of a request that got no answer. ctx is the context that
// the request was made with. ok is false if err is not an error of the network.
//
// A timeout of the network, or of a single try, is not the caller's deadline: only ctx tells that.
func OfError(ctx context.Context, err error) (means Refusal, ok bool) {
	var (
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		alert       tls.AlertError
		op          *net.OpError
		broken      *url.Error
		network     net.Error
	)
	switch {
	case ctx.Err() != nil:
		return Refusal{Class: Refused, Code: faas.ErrTimeout}, true
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &host):
		return Refusal{Class: Refused, Code: faas.ErrUnavailable,
			Remedy: "name the authority that signed the server's certificate, or set the clock"}, true
	// The server rejects our certificate.
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
		return Refusal{Class: Refused, Code: faas.ErrPermissionDenied}, true
	case errors.As(err, &broken), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		return Refusal{Class: Outage, Code: faas.ErrUnavailable}, true
	}
	return Refusal{}, false
}

// Fail makes the error of a refusal. The cause stays reachable, and [RefusalOf] returns means.
func Fail(op, provider string, jobID int64, means Refusal, cause error) *faas.Error {
	return &faas.Error{
		Op: op, Provider: provider, JobID: jobID, Code: means.Code, RetryAfter: means.RetryAfter,
		Unsettled: IsUnanswered(cause),
		Err:       &refused{cause, means},
	}
}

// refused is the cause of an error that has been classed.
type refused struct {
	error
	means Refusal
}

func (r *refused) Error() string {
	if r.means.Remedy == "" {
		return r.error.Error()
	}
	return r.error.Error() + "; to fix it: " + r.means.Remedy
}

func (r *refused) Unwrap() error { return r.error }

// RefusalOf returns the meaning of an error: the one that [Fail] was given, or else what the
// error's code tells.
func RefusalOf(err error) Refusal {
	var known *refused
	if errors.As(err, &known) {
		return known.means
	}
	means := Refusal{Code: faas.CodeOf(err)}
	if means.Class = classOf(means.Code); means.Code == faas.ErrConflict {
		means.Class = Refused // it is somebody else's, and stays so
	}
	var failed *faas.Error
	if errors.As(err, &failed) {
		means.RetryAfter = failed.RetryAfter
	}
	return means
}
