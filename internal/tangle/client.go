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
)

// The limits of a conversation with a node.
const (
	// MaxResponse is how long a response may be, in bytes, once it is unpacked. Where a node takes no batches, it is how
	// long the responses may be together that would have been one.
	MaxResponse = 4 << 20
	// maxErrorBody is how much of the body of an HTTP error is read.
	maxErrorBody = 64 << 10
	// defaultTimeout is how long a node may take for one response.
	defaultTimeout = 10 * time.Second
	// rounds is how often all nodes are tried.
	rounds = 3
	// firstPause doubles from round to round. maxPause bounds what a node may ask for.
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// client asks one of several nodes. It is used by one goroutine.
type client struct {
	http    *http.Client
	timeout time.Duration
	nodes   []*node // the one that answered last comes first, so that a conversation stays with one node while it answers
}

// node is one URL.
type node struct {
	url     *url.URL
	hide    *strings.Replacer // of what must not be printed of the URL
	noBatch bool              // it was found to refuse batches
}

func newClient(urls []string, httpClient *http.Client, timeout time.Duration) (*client, error) {
	c := &client{timeout: timeout}
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	copied := *httpClient
	// A redirect could carry the URL's credentials to another host, and turn the POST into a GET.
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
	case err != nil: // its text may hold a password
		return nil, errors.New("cannot be parsed: it must be like http://localhost:9944")
	case u.Scheme == "ws" || u.Scheme == "wss":
		return nil, fmt.Errorf("has the scheme %s, and only http and https are spoken: most nodes serve both, at the "+
			"same host", u.Scheme)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("must begin with http:// or https:// and name a host")
	}
	return &node{url: u, hide: hider(secrets(u))}, nil
}

// String names the node without what may be secret: hosted nodes carry keys in path and query.
func (n *node) String() string { return n.url.Scheme + "://" + n.url.Host }

// scrub takes the URL's secrets out of foreign text. It comes before any cut, which could leave a part of one.
func (n *node) scrub(text string) string { return n.hide.Replace(text) }

// scrubQuoted is scrub for a text with quotations in it, as errors about foreign text have them.
func (n *node) scrubQuoted(text string) string {
	var b strings.Builder
	for {
		at := max(strings.IndexByte(text, '"'), 0)
		quotation, err := strconv.QuotedPrefix(text[at:])
		if err != nil {
			break // there is none
		}
		said, _ := strconv.Unquote(quotation)
		b.WriteString(n.scrub(text[:at]) + strconv.Quote(n.scrub(said)))
		text = text[at+len(quotation):]
	}
	return b.String() + n.scrub(text)
}

// scrubbedError is an error whose text may hold foreign text.
type scrubbedError struct {
	text string
	err  error
}

func (e *scrubbedError) Error() string { return e.text }
func (e *scrubbedError) Unwrap() error { return e.err }

// do sends the calls, as one batch where the node takes batches, and returns their answers in the same order. It tries the nodes in turn, and
// after a pause those again where that may help. The error is an *Error.
//
// A call that is required has a result, or was reverted by the contract. Others may have any error.
func (c *client) do(ctx context.Context, calls []call) ([]answer, error) {
	failed := make([]*Error, len(c.nodes))
	var partial []answer // lacks only what is not required
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

// sleep waits, and reports whether the context lasted so long.
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

// combine makes one error of those of all nodes. Its kind is that of the first, which is the one that the operator prefers.
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

// joined is errors in one line.
type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }

// ask asks one node once. Beside an error it returns answers where they lack only what is not required.
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
		total := 0 // of all answers, which are held together
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
				return nil, n.rpcError(rpcErr, one.method) // the others would be of no use
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

// refusesBatches lists what servers are known to answer to a JSON array that they do not expect.
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

// post sends a body and returns that of the response, which is at most MaxResponse bytes long.
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
	if resp.StatusCode == http.StatusSwitchingProtocols { // its body is the connection, which no context closes
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

// scratch holds buffers that bodies are read into before their length is known.
var scratch = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readAll reads a body, and never more of it than MaxResponse bytes and one.
func readAll(resp *http.Response) ([]byte, error) {
	if resp.ContentLength > MaxResponse {
		return nil, errTooLarge
	}
	buf := scratch.Get().(*bytes.Buffer)
	defer scratch.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, MaxResponse+1)); err != nil {
		return nil, err
	}
	if buf.Len() > MaxResponse {
		return nil, errTooLarge
	}
	return bytes.Clone(buf.Bytes()), nil
}

// transportError is an error of the way to the node. That of net/http would print the URL.
func (c *client) transportError(ctx context.Context, n *node, err error) *Error {
	if urlErr, ok := err.(*url.Error); ok {
		err = urlErr.Err
	}
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		// Not worth repeating: this node has had its time, and another one may be waiting.
		return errorf(ErrTimeout, "node %s did not answer within %v", n, c.timeout)
	}
	// What net/http cannot read stands in its error.
	e := errorf(ErrUnreachable, "node %s is unreachable: %w", n, &scrubbedError{clip(n.scrubQuoted(err.Error())), err})
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	e.again = !errors.As(err, &certificate) && !(errors.As(err, &dns) && dns.IsNotFound)
	return e
}

// malformed is the text of an error that may hold foreign text.
func (n *node) malformed(err error) string {
	if garbage, ok := err.(*errNotJSON); ok {
		return (&errNotJSON{n.scrub(garbage.begin)}).Error()
	}
	return n.scrubQuoted(err.Error())
}

// statusError is what a status other than 200 means. The server's own words for it are foreign text.
func (n *node) statusError(resp *http.Response) *Error {
	text := http.StatusText(resp.StatusCode)
	if text != "" {
		text = " " + text
	}
	e := errorf(ErrHTTP, "node %s answered with HTTP %d%s", n, resp.StatusCode, text)
	e.Status = resp.StatusCode
	return e
}

// httpError is what a status other than 200 means, and what the body says of it.
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
