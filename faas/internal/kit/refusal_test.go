package kit

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestAnAnswerMeansWhatTheFirstRuleThatMatchesSays(t *testing.T) {
	rules := Rules{
		{Code: []string{"QuotaExceeded"}, Means: Refusal{Class: Quota, Code: faas.ErrTooLarge, Remedy: "ask for more"}},
		{Status: []int{400}, Text: []string{"cannot be assumed"},
			Means: Refusal{Class: Settling, Code: faas.ErrPermissionDenied}},
		{Text: []string{"cannot be assumed"}, Means: Refusal{Class: Busy}},
		{Code: []string{"AnotherOwner"}, Means: Refusal{Code: faas.ErrConflict}, Stays: true},
		{When: func(a Answer) bool { return a.Status == 0 }, Means: Refusal{Code: faas.ErrConflict}},
	}
	for _, tt := range []struct {
		answer Answer
		want   Refusal
	}{
		{Answer{Status: 401, Code: "QuotaExceeded"}, Refusal{Quota, faas.ErrTooLarge, "ask for more", 0}},
		{Answer{Status: 400, Text: "The role CANNOT be assumed"}, Refusal{Class: Settling, Code: faas.ErrPermissionDenied}},
		{Answer{Status: 403, Text: "it cannot be assumed"}, Refusal{Class: Busy, Code: faas.ErrPermissionDenied}},
		{Answer{Status: 409, Code: "AnotherOwner"}, Refusal{Class: Refused, Code: faas.ErrConflict}},
		{Answer{Text: "ended"}, Refusal{Class: Busy, Code: faas.ErrConflict}},
		{Answer{Status: 429, RetryAfter: time.Second},
			Refusal{Class: Throttled, Code: faas.ErrThrottled, RetryAfter: time.Second}},
	} {
		if diff := cmp.Diff(tt.want, rules.Of(tt.answer)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.answer, diff)
		}
	}
}

func TestAStatusAloneHasACodeAndAClass(t *testing.T) {
	type means struct {
		class Class
		code  faas.Code
	}
	for status, want := range map[int]means{
		301: {Refused, faas.ErrInvalidArgument}, 400: {Refused, faas.ErrInvalidArgument},
		401: {Denied, faas.ErrPermissionDenied},
		403: {Refused, faas.ErrPermissionDenied}, 404: {Absent, faas.ErrNotFound}, 405: {Refused, faas.ErrUnsupported},
		407: {Refused, faas.ErrPermissionDenied}, 408: {Outage, faas.ErrUnavailable}, 409: {Busy, faas.ErrConflict},
		410: {Absent, faas.ErrNotFound}, 412: {Refused, faas.ErrConflict}, 413: {Refused, faas.ErrTooLarge},
		414: {Refused, faas.ErrTooLarge}, 415: {Refused, faas.ErrUnsupported}, 418: {Refused, faas.ErrInvalidArgument},
		422: {Refused, faas.ErrInvalidArgument}, 423: {Busy, faas.ErrConflict}, 429: {Throttled, faas.ErrThrottled},
		431: {Refused, faas.ErrTooLarge}, 500: {Outage, faas.ErrUnavailable}, 501: {Refused, faas.ErrUnsupported},
		502: {Outage, faas.ErrUnavailable}, 503: {Outage, faas.ErrUnavailable}, 504: {Outage, faas.ErrUnavailable},
	} {
		got := Rules(nil).Of(Answer{Status: status})
		if got.Class != want.class || got.Code != want.code {
			t.Errorf("%d: class %d and code %q, want %d and %q", status, got.Class, got.Code, want.class, want.code)
		}
	}
}

func TestARequestWithoutAnAnswerIsClassedByWhatBroke(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	_, untrusted := http.Get(server.URL)
	ended, end := context.WithCancel(t.Context())
	end()
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		want Refusal
		ok   bool
	}{
		"the caller has given up": {ended, io.EOF, Refusal{Code: faas.ErrTimeout}, true},
		"a try took too long": {t.Context(), &url.Error{Op: "Get", Err: context.DeadlineExceeded},
			Refusal{Class: Outage, Code: faas.ErrUnavailable}, true},
		"the connection broke": {t.Context(), fmt.Errorf("read: %w", io.ErrUnexpectedEOF),
			Refusal{Class: Outage, Code: faas.ErrUnavailable}, true},
		"nobody listens": {t.Context(), &net.OpError{Op: "dial", Err: errors.New("refused")},
			Refusal{Class: Outage, Code: faas.ErrUnavailable}, true},
		"our certificate": {t.Context(), &url.Error{
			Err: &net.OpError{Op: "remote error", Err: errors.New("bad certificate")}}, Refusal{Code: faas.ErrPermissionDenied},
			true},
		"something else": {t.Context(), errors.New("no"), Refusal{}, false},
	} {
		got, ok := OfError(tt.ctx, tt.err)
		if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
			t.Errorf("%s: known: %t (-want +got):\n%s", name, ok, diff)
		}
	}
	for name, err := range map[string]error{"the server's certificate": untrusted,
		"its authority": &url.Error{Err: x509.UnknownAuthorityError{}}} {
		if got, _ := OfError(t.Context(), err); got.Class != Refused || got.Code != faas.ErrUnavailable || got.Remedy == "" {
			t.Errorf("%s: %+v of %v", name, got, err)
		}
	}
}

func TestAnErrorKeepsWhatItMeans(t *testing.T) {
	cause := errors.New("no more of it")
	means := Refusal{Quota, faas.ErrTooLarge, "ask for more", time.Minute}
	err := fmt.Errorf("deploy: %w", Fail("deploy", faas.Custom, 7, means, cause))
	if got := RefusalOf(err); got != means {
		t.Errorf("got %+v", got)
	}
	if want := "deploy: faas: deploy: custom: job 7: no more of it; to fix it: ask for more"; err.Error() != want {
		t.Errorf("got %q\nwant %q", err, want)
	}
	if !errors.Is(err, cause) || !errors.Is(err, faas.ErrTooLarge) {
		t.Errorf("the cause or the code of %v is out of reach", err)
	}
	if got := RefusalOf(faas.Errorf(faas.ErrConflict, "deploy", faas.Custom,
		"it is another service's")); got.Class != Refused {
		t.Errorf("a conflict that no answer told of: %+v", got)
	}
	other := &faas.Error{Code: faas.ErrThrottled, RetryAfter: time.Second, JobID: faas.NoJob}
	if got, want := RefusalOf(other), (Refusal{Class: Throttled, Code: faas.ErrThrottled,
		RetryAfter: time.Second}); got != want {
		t.Errorf("of another error: %+v, want %+v", got, want)
	}
}
