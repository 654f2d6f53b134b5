//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// refusal is the kind of an error, for whoever could try again. Every error gets its kind here.
type refusal int

const (
	final  refusal = iota // trying again is in vain
	absent                // Azure says that something does not exist, which a replica that lags says too
	denied                // Azure does not take the token, which it says of a good one now and then
	outage                // it passes by itself: the network, or Azure, does not work at the moment
	busy                  // Azure is at work on an earlier change
)

// kindOf sorts an error.
func kindOf(err error) refusal {
	var (
		response    *azcore.ResponseError
		certificate *tls.CertificateVerificationError
		token       *tokenError
		broken      *url.Error
		network     net.Error
	)
	switch {
	case errors.As(err, &token):
		var failed *azidentity.AuthenticationFailedError
		if errors.As(err, &failed) && (failed.RawResponse == nil || kindOfStatus(failed.RawResponse.StatusCode) == outage) {
			return outage // without an answer, the authority was not reached
		}
		return final
	case errors.As(err, &response):
		return kindOfResponse(response)
	case errors.As(err, &certificate):
		return final
	case errors.As(err, &broken), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.DeadlineExceeded):
		return outage
	}
	return final
}

func kindOfStatus(status int) refusal {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return outage
	case http.StatusNotFound:
		return absent
	}
	return final
}

func kindOfResponse(r *azcore.ResponseError) refusal {
	message := strings.ToLower(messageOf(bodyOf(r)))
	switch {
	case isQuota(r.StatusCode, r.ErrorCode, message), isLock(r.ErrorCode),
		r.ErrorCode == "SubscriptionNotFound", r.ErrorCode == "InvalidSubscriptionId":
		return final
	case r.StatusCode == http.StatusUnauthorized:
		return denied
	case r.StatusCode == http.StatusBadRequest && isHostStarting(message):
		return outage
	case r.StatusCode == http.StatusLocked:
		return busy
	case r.StatusCode == http.StatusConflict:
		switch r.ErrorCode {
		case "AnotherOperationInProgress", "StorageAccountOperationInProgress", "ResourceGroupBeingDeleted",
			"OperationNotAllowedOnResourceBeingDeleted":
			return busy
		}
		if strings.Contains(message, "operation is in progress") || strings.Contains(message, "being deleted") {
			return busy
		}
	}
	return kindOfStatus(r.StatusCode)
}

// isHostStarting reports whether a message is what Resource Manager says of a Functions host that it
// does not reach yet.
func isHostStarting(message string) bool {
	return containsAny(message, "(serviceunavailable) from host runtime", "(badgateway) from host runtime", "(notfound) from host runtime")
}

// isLock reports whether an error code is that of a lock that somebody has put on a resource.
func isLock(code string) bool { return code == "ScopeLocked" }

// isQuota reports whether Azure refused something for want of quota, which it does with several statuses.
func isQuota(status int, code, message string) bool {
	switch code {
	case "QuotaExceeded", "SubscriptionQuotaExceeded", "SubscriptionIsOverQuotaForSku", "ResourceQuotaExceeded", "ResourceGroupQuotaExceeded",
		"MaxStorageAccountsCountPerSubscriptionExceeded":
		return status != http.StatusTooManyRequests
	}
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict:
		return containsAny(message, "has quota of", "additional quota", "maximum number of", "quota exceeded", "exceeds quota", "exceeded quota",
			"exceeding approved", "quota limit", "overquota")
	}
	return false
}

// containsAny reports whether a text contains any of the words, which are in lower case, in whatever case.
func containsAny(text string, words ...string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
}

// most401 is how many times in a row a token may be refused until that counts.
const most401 = 3

// wait is a wait for a state. The pauses between two looks grow. It ends when a look says so, when a
// look fails for good, when the longest time is over, or with its context.
type wait struct {
	what    func() string // is waited for in vain
	next    time.Duration // the next pause
	longest time.Duration // of one pause
	limit   time.Duration // of all
	// absent is for how long 404 may be said of what exists; 0 if it counts at once.
	absent time.Duration
	// also says which other errors pass by themselves; it may be nil.
	also func(error) bool
	// quick says that what a retry policy below has tried to get through already counts.
	quick bool
}

// look is one look. done ends the wait, and asked is how long Azure asked to wait for the next.
type look func(ctx context.Context) (done bool, asked time.Duration, err error)

// waitFor returns a wait that calls what it waits for by what it is.
func (e *Executor) waitFor(limit time.Duration, what string, args ...any) *wait {
	return &wait{
		what: func() string { return fmt.Sprintf(what, args...) }, next: e.pace.first, longest: e.pace.longest, limit: limit,
	}
}

// run looks until the wait ends. The error of a wait that ended in vain is a *waitError with the last
// refusal; that of a look that failed for good is the look's own.
func (w *wait) run(ctx context.Context, try look) error {
	var (
		start   = time.Now()
		refused int
		last    error
		missing time.Time // when 404 was first said since something else was
	)
	for {
		if ctx.Err() != nil {
			return &waitError{what: w.what(), ended: context.Cause(ctx), last: last}
		}
		done, asked, err := try(ctx)
		var inner *waitError
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			refused, missing = 0, time.Time{}
		case errors.As(err, &inner):
			return err // it has waited, and says for what
		case ctx.Err() != nil:
			var unknown *unknownOutcome
			if errors.As(err, &unknown) || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				last = err
			}
			return &waitError{what: w.what(), ended: context.Cause(ctx), last: last}
		default:
			if refused++; kindOf(err) != denied {
				refused = 0
			}
			if kindOf(err) != absent {
				missing = time.Time{}
			} else if missing.IsZero() {
				missing = time.Now()
			}
			if !w.passes(err, refused, missing) {
				return err
			}
			last, asked = err, max(asked, askedBy(err))
		}
		left := w.limit - time.Since(start)
		if left <= 0 {
			return &waitError{what: w.what(), limit: w.limit, last: last}
		}
		w.pause(ctx, min(max(asked, w.next), left))
	}
}

func (w *wait) passes(err error, refused int, missing time.Time) bool {
	switch kindOf(err) {
	case absent:
		if time.Since(missing) < w.absent {
			return true
		}
	case denied:
		if refused < most401 {
			return true
		}
	case outage:
		if !w.quick {
			return true
		}
	case busy:
		return true
	}
	return w.also != nil && w.also(err)
}

func (w *wait) pause(ctx context.Context, d time.Duration) {
	w.next = min(w.next*2, w.longest)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// waitError is a wait that ended in vain: its longest time was over, or its context ended.
type waitError struct {
	what  string
	limit time.Duration
	ended error // of the context, or nil
	last  error // what was refused last, or nil
}

func (e *waitError) Error() string {
	var b strings.Builder
	b.WriteString(e.what)
	if e.ended != nil {
		b.WriteString(": " + e.ended.Error())
	} else {
		fmt.Fprintf(&b, " after %v", e.limit)
	}
	if e.last != nil {
		b.WriteString(": " + e.last.Error())
	}
	return b.String()
}

// Unwrap returns the context's error and the last refusal.
func (e *waitError) Unwrap() []error {
	var all []error
	for _, err := range []error{e.ended, e.last} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}
