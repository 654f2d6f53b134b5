package faastest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HTTPScript returns the fault of a request, or nil for none. Many goroutines call it, and it
// must not read the body.
type HTTPScript func(*http.Request) *Fault

// FaultyTransport returns a transport that sends requests through base, or through
// http.DefaultTransport if base is nil, except those that the script makes fail:
//
//   - Throttled is answered with 429, Conflict with 409, Denied with 403 and Unavailable with 503;
//     base never sees the request.
//   - Hang waits until the request's context is done.
//   - TimedOut, LostAnswer and Halfway send the request, wait for the answer, and lose it.
//   - Late delays the answer by Fault.Delay.
//   - Missing answers a GET with the 404 that the server gave earlier to this request or a similar
//     one, and Stale with the server's previous answer to it. Other requests pass.
func FaultyTransport(base http.RoundTripper, script HTTPScript) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &faultyTransport{base: base, script: script, past: &replies{}}
}

type faultyTransport struct {
	base   http.RoundTripper
	script HTTPScript
	past   *replies
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (t *faultyTransport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *faultyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	fault := t.script(req)
	if req.Method == http.MethodGet {
		return t.get(req, fault)
	}
	if fault == nil || fault.Kind.of(Missing, Stale) {
		return t.base.RoundTrip(req)
	}
	return t.strike(req, fault)
}

func (t *faultyTransport) strike(req *http.Request, fault *Fault) (*http.Response, error) {
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
	if fault.Kind == Late {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			return resp, nil
		case <-req.Context().Done():
			resp.Body.Close()
			return nil, req.Context().Err()
		}
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, err
	}
	return nil, &lostError{fault.Kind}
}

// get makes a GET. It remembers the answer if it is an API's, and not a stream.
func (t *faultyTransport) get(req *http.Request, fault *Fault) (*http.Response, error) {
	if fault != nil && !fault.Kind.of(Missing, Stale) {
		return t.strike(req, fault)
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil || resp.StatusCode < http.StatusOK {
		return resp, err
	}
	const largest = 1 << 20
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if resp.ContentLength > largest || resp.ContentLength < 0 && media != "application/json" &&
		media != "application/xml" {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	now := reply{status: resp.StatusCode, header: resp.Header, body: body}
	before := t.past.add(req, now)
	switch {
	case fault == nil:
		return now.response(req), nil
	case fault.Kind == Missing:
		return t.past.missing(req).response(req), nil
	case before == nil:
		before = t.past.missing(req)
	}
	return before.response(req), nil
}

// replies are the answers to GETs, without repetitions.
type replies struct {
	mu    sync.Mutex
	urls  map[string][]reply
	shape map[string]reply // the last 404 to a request of a shape
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

// add records an answer and returns the one before it, or nil.
func (r *replies) add(req *http.Request, now reply) *reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.urls == nil {
		r.urls, r.shape = map[string][]reply{}, map[string]reply{}
	}
	if now.status == http.StatusNotFound {
		r.shape[shape(req)] = now
	}
	if now.status != http.StatusNotFound && now.status >= http.StatusBadRequest {
		return nil
	}
	url := req.URL.String()
	if seen := r.urls[url]; len(seen) == 0 || seen[len(seen)-1].status != now.status ||
		!bytes.Equal(seen[len(seen)-1].body, now.body) {
		r.urls[url] = append(seen, now)
	}
	if seen := r.urls[url]; len(seen) > 1 {
		return &seen[len(seen)-2]
	}
	return nil
}

// shape is the same for requests whose answers are of the same kind.
func shape(req *http.Request) string {
	return fmt.Sprint(req.URL.Host, strings.Count(req.URL.Path, "/"))
}

// missing returns a 404 in the server's own words, if it ever gave one to such a request.
func (r *replies) missing(req *http.Request) *reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.shape[shape(req)]; ok {
		return &known
	}
	return &reply{
		http.StatusNotFound, http.Header{"Content-Type": {"application/json"},
			"X-Amzn-Errortype": {"ResourceNotFoundException"}},
		[]byte(`{"error":{"code":404,"status":"NOT_FOUND","message":"injected fault: missing"}}`),
	}
}

func (r *reply) response(req *http.Request) *http.Response {
	header := r.header.Clone()
	header.Del("Content-Length")
	return &http.Response{
		StatusCode: r.status, Status: strconv.Itoa(r.status) + " " + http.StatusText(r.status), Proto: "HTTP/1.1",
		ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(r.body)), ContentLength: int64(len(r.body)), Request: req,
	}
}

func refusal(req *http.Request, fault *Fault) *http.Response {
	status := map[FaultKind]int{
		Throttled: http.StatusTooManyRequests, Conflict: http.StatusConflict, Denied: http.StatusForbidden,
		Unavailable: http.StatusServiceUnavailable,
	}[fault.Kind]
	body := fmt.Sprintf(`{"error":"injected fault: %s"}`, fault.Kind)
	header := http.Header{"Content-Type": {"application/json"}}
	if fault.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int((fault.RetryAfter+time.Second-1)/time.Second)))
	}
	return &http.Response{
		StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

// lostError is a net.Error, as those of lost connections are.
type lostError struct{ kind FaultKind }

func (e *lostError) Error() string   { return "injected fault: " + string(e.kind) }
func (e *lostError) Timeout() bool   { return e.kind == TimedOut }
func (e *lostError) Temporary() bool { return true }
