package faastest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HTTPScript says what goes wrong with a request: nil for nothing. It is called from many goroutines, and must not read the body.
type HTTPScript func(*http.Request) *Fault

// FaultyTransport returns a transport that sends requests through base, except where the script makes one go wrong: Throttled is answered with 429,
// Conflict with 409, Denied with 403 and Unavailable with 503, and base never sees the request; Hang waits until the request's context is done; TimedOut,
// LostAnswer and Halfway send the request, wait until it is answered, and lose the answer. A nil base is http.DefaultTransport.
func FaultyTransport(base http.RoundTripper, script HTTPScript) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &faultyTransport{base, script}
}

type faultyTransport struct {
	base   http.RoundTripper
	script HTTPScript
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (t *faultyTransport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *faultyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	fault := t.script(req)
	if fault == nil {
		return t.base.RoundTrip(req)
	}
	if fault.Kind.before() {
		if req.Body != nil {
			defer req.Body.Close()
		}
		if fault.Kind == Hang {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		return refusal(req, fault), nil
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, err
	}
	return nil, &lostError{fault.Kind}
}

func refusal(req *http.Request, fault *Fault) *http.Response {
	status := map[FaultKind]int{
		Throttled: http.StatusTooManyRequests, Conflict: http.StatusConflict, Denied: http.StatusForbidden, Unavailable: http.StatusServiceUnavailable,
	}[fault.Kind]
	body := fmt.Sprintf(`{"error":"injected fault: %s"}`, fault.Kind)
	header := http.Header{"Content-Type": {"application/json"}}
	if fault.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int((fault.RetryAfter+time.Second-1)/time.Second)))
	}
	return &http.Response{
		StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

// lostError is a net.Error, as those of lost connections are.
type lostError struct{ kind FaultKind }

func (e *lostError) Error() string   { return "injected fault: " + string(e.kind) }
func (e *lostError) Timeout() bool   { return e.kind == TimedOut }
func (e *lostError) Temporary() bool { return true }
