package tangle

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// The limits of a conversation with a node.
const (
	// MaxResponse is the maximum length of an unpacked response in bytes. If a node does not support
	// batches, it limits the sum of the responses that replace a batch.
	MaxResponse = 4 << 20
	// maxErrorBody limits how much of the body of an HTTP error is read.
	maxErrorBody = 64 << 10
	// defaultTimeout limits the time for a response.
	defaultTimeout = 10 * time.Second
	// rounds is how often all nodes are tried.
	rounds = 3
	// firstPause doubles in every round. maxPause limits the pause that a node may ask for.
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// client asks one of several nodes. Only one goroutine may use it.
type client struct {
	http    *http.Client
	timeout time.Duration
	nodes   []*node // the node that answered last is first, so that a conversation stays with one node
}

// node is a node's URL.
type node struct {
	url     *url.URL
	hide    *sanitize.Cleaner // knows the secrets of the URL
	noBatch bool              // it was found to refuse batches
}

func newClient(urls []string, httpClient *http.Client, timeout time.Duration) (*client, error) {
	c := &client{timeout: timeout}
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	copied := *httpClient
	// A redirect could send the URL's credentials to another host, and turn the POST into a GET.
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &copied
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if t := httpClient.Timeout; t > 0 {
		c.timeout = min(c.timeout, t)
	}
	for i, raw := range urls {
		n, err := newNode(raw)
		if err != nil {
			return nil, errorf(ErrConfig, "RPC URL %d of %d %w", i+1, len(urls), err)
		}
		c.nodes = append(c.nodes, n)
	}
	if len(c.nodes) == 0 {
		return nil, errorf(ErrConfig, "no RPC URL is given")
	}
	return c, nil
}

func newNode(raw string) (*node, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case err != nil: // the error's text may contain a password
		return nil, errors.New("cannot be parsed: it must be like http://localhost:9944")
	case u.Scheme == "ws" || u.Scheme == "wss":
		return nil, fmt.Errorf("has the scheme %s, and only http and https are spoken: most nodes serve both, at the "+
			"same host", u.Scheme)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("must begin with http:// or https:// and name a host")
	}
	return &node{url: u, hide: cleanerOf(u)}, nil
}

// String returns the scheme and the host of the node. The path and query may contain secrets: keys
// of hosted nodes.
func (n *node) String() string { return n.url.Scheme + "://" + n.url.Host }

// scrub removes the URL's secrets from a text that others wrote. It must come before any cut, which
// could leave a part of one.
func (n *node) scrub(text string) string { return n.hide.Clean(text) }

// scrubbedError is an error without the secrets that its text may have contained.
type scrubbedError struct {
	text string
	err  error
}

func (e *scrubbedError) Error() string { return e.text }
func (e *scrubbedError) Unwrap() error { return e.err }

// do sends the calls and returns their answers in the same order. It sends a batch if the node
// supports batches. If a node fails, do asks the next one; it asks all nodes again, after a pause,
// if that may help. The error is an *Error.
//
// The answer to a required call is a result or a revert by the contract. Other answers may contain
// any error.
func (c *client) do(ctx context.Context, calls []call) ([]answer, error) {
	failed := make([]*Error, len(c.nodes))
	var partial []answer // lacks only answers that are not required
	var partialFrom int
	pause := firstPause
	for round := range rounds {
		worthwhile, asked := false, time.Duration(0)
		for i, n := range c.nodes {
			if failed[i] != nil && !failed[i].again {
				continue
			}
			answers, err := c.ask(ctx, n, calls)
			if ctx.Err() != nil {
				return nil, &Error{Kind: ErrTimeout, Err: fmt.Errorf("node %s had not answered: %w", n, context.Cause(ctx))}
			}
			if err == nil {
				c.prefer(i)
				return answers, nil
			}
			if answers != nil {
				partial, partialFrom = answers, i
			}
			failed[i] = err
			if err.again {
				worthwhile = true
				asked = max(asked, err.after)
			}
		}
		if !worthwhile || round == rounds-1 {
			break
		}
		if !sleep(ctx, max(min(asked, maxPause), pause/2+rand.N(pause/2))) {
			return nil, &Error{Kind: ErrTimeout, Err: fmt.Errorf("no node had answered: %w; the last attempt: %w",
				context.Cause(ctx), combine(failed))}
		}
		pause *= 2
	}
	if partial != nil {
		c.prefer(partialFrom)
		return partial, nil
	}
	return nil, combine(failed)
}

// prefer moves a node to the front.
func (c *client) prefer(i int) {
	n := c.nodes[i]
	copy(c.nodes[1:i+1], c.nodes[:i])
	c.nodes[0] = n
}

// sleep waits and reports whether the context is still valid.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// combine returns one error for the errors of all nodes. Its kind is that of the first node, the
// operator's preferred one.
func combine(failed []*Error) *Error {
	if len(failed) == 1 {
		return failed[0]
	}
	first := *failed[0]
	all := make([]error, len(failed))
	for i, err := range failed {
		all[i] = err
	}
	first.Err = fmt.Errorf("none of %d nodes gave an answer: %w", len(failed), joined(all))
	return &first
}

// joined is a list of errors in one line.
type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }

// ask asks a node once. With an error it may return answers, which then lack only what is not
// required.
func (c *client) ask(ctx context.Context, n *node, calls []call) ([]answer, *Error) {
	var answers []answer
	single := n.noBatch || len(calls) == 1
	if !single {
		body, err := c.post(ctx, n, encodeBatch(calls))
		if err == nil {
			var parseErr error
			answers, parseErr = parseBatch(body, len(calls))
			if refusal, ok := parseErr.(*errNoBatch); ok {
				if err = n.rpcError(refusal.err, "a batch"); !err.again {
					n.noBatch = true
				}
			} else if parseErr != nil {
				err = errorf(ErrMalformed, "node %s: answer malformed: %s", n, n.malformed(parseErr))
			}
		} else if refusesBatches(err.Status) {
			n.noBatch = true
		}
		if err != nil && !n.noBatch {
			return nil, err
		}
		single = n.noBatch
	}
	if single {
		answers = make([]answer, len(calls))
		total := 0 // of all answers, which are in memory together
		for i, one := range calls {
			body, err := c.post(ctx, n, encodeSingle(one))
			if err != nil {
				return nil, err
			}
			if total += len(body); total > MaxResponse {
				return nil, tooLarge(n)
			}
			var parseErr error
			if answers[i], parseErr = parseSingle(body); parseErr != nil {
				return nil, errorf(ErrMalformed, "node %s: answer to %s malformed: %s", n, one.method, n.malformed(parseErr))
			}
			if rpcErr := answers[i].err; rpcErr != nil && one.required && !rpcErr.reverted() {
				return nil, n.rpcError(rpcErr, one.method) // the other answers would be useless
			}
		}
	}
	var flaw *Error
	for i, a := range answers {
		switch {
		case a.err == nil || a.err.reverted():
		case calls[i].required:
			return nil, n.rpcError(a.err, calls[i].method)
		case a.err.transient() && flaw == nil:
			flaw = n.rpcError(a.err, calls[i].method)
		}
	}
	return answers, flaw
}

// refusesBatches reports whether servers are known to answer an unexpected JSON array with this
// status.
func refusesBatches(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity,
		http.StatusInternalServerError, http.StatusNotImplemented:
		return true
	}
	return false
}

func (n *node) rpcError(err *RPCError, method string) *Error {
	scrubbed := *err
	scrubbed.Message = n.scrub(err.Message)
	e := errorf(ErrRPC, "node %s answered %s with %w", n, method, &scrubbed)
	e.RPC, e.again = &scrubbed, err.transient()
	return e
}

// post sends a body and returns the body of the response, which has at most MaxResponse bytes.
func (c *client) post(ctx context.Context, n *node, body []byte) ([]byte, *Error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errorf(ErrConfig, "the RPC URL of node %s cannot be used", n)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.transportError(ctx, n, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols { // the body is the connection itself, which no context closes
		return nil, n.statusError(resp)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, n.httpError(resp)
	}
	data, err := readAll(resp)
	if errors.Is(err, errTooLarge) {
		return nil, tooLarge(n)
	}
	if err != nil {
		return nil, c.transportError(ctx, n, err)
	}
	return data, nil
}

func tooLarge(n *node) *Error {
	return errorf(ErrTooLarge, "node %s: the answer is larger than %d bytes", n, MaxResponse)
}

var errTooLarge = errors.New("too large")

// bodies holds buffers for bodies of unknown length.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readAll reads a body, but no more than MaxResponse+1 bytes.
func readAll(resp *http.Response) ([]byte, error) {
	if resp.ContentLength > MaxResponse {
		return nil, errTooLarge
	}
	buf := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, MaxResponse+1)); err != nil {
		return nil, err
	}
	if buf.Len() > MaxResponse {
		return nil, errTooLarge
	}
	return bytes.Clone(buf.Bytes()), nil
}

// transportError converts an error of net/http, which would print the URL.
func (c *client) transportError(ctx context.Context, n *node, err error) *Error {
	if urlErr, ok := err.(*url.Error); ok {
		err = urlErr.Err
	}
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		// Do not repeat the call: this node has used its time, and another one may be waiting.
		return errorf(ErrTimeout, "node %s did not answer within %v", n, c.timeout)
	}
	// What net/http cannot read stands in its error.
	e := errorf(ErrUnreachable, "node %s is unreachable: %w", n, &scrubbedError{clip(n.scrub(err.Error())), err})
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	e.again = !errors.As(err, &certificate) && !(errors.As(err, &dns) && dns.IsNotFound)
	return e
}

// malformed returns the text of an error that may contain foreign text.
func (n *node) malformed(err error) string {
	if garbage, ok := err.(*errNotJSON); ok {
		return (&errNotJSON{n.scrub(garbage.begin)}).Error()
	}
	return n.scrub(err.Error())
}

// statusError converts a status other than 200. The server's explanation is foreign text.
func (n *node) statusError(resp *http.Response) *Error {
	text := http.StatusText(resp.StatusCode)
	if text != "" {
		text = " " + text
	}
	e := errorf(ErrHTTP, "node %s answered with HTTP %d%s", n, resp.StatusCode, text)
	e.Status = resp.StatusCode
	return e
}

// httpError converts a status other than 200 and the body of the response.
func (n *node) httpError(resp *http.Response) *Error {
	head, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // only for the message
	e := n.statusError(resp)
	if a, err := parseSingle(head); (err == nil || a.err != nil) && a.err != nil {
		e = n.rpcError(a.err, "with HTTP "+strconv.Itoa(resp.StatusCode))
	}
	e.Status = resp.StatusCode
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.again = true
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.after = time.Duration(min(seconds, int(maxPause/time.Second))) * time.Second
	}
	return e
}
