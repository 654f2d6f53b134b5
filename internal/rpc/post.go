package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// post sends a body and returns the body of the response, which is not longer than the limit.
func (c *Client) post(ctx context.Context, n *Node, body []byte) ([]byte, *Error) {
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
	data, err := readAll(resp, c.limit)
	if errors.Is(err, errTooLarge) {
		return nil, c.tooLarge(n)
	}
	if err != nil {
		return nil, c.transportError(ctx, n, err)
	}
	return data, nil
}

func (c *Client) tooLarge(n *Node) *Error {
	return errorf(ErrTooLarge, "node %s: the answer is larger than %d bytes", n, c.limit)
}

var errTooLarge = errors.New("too large")

// bodies holds buffers for bodies of unknown length.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readAll reads a body, but no more than limit+1 bytes.
func readAll(resp *http.Response, limit int) ([]byte, error) {
	if resp.ContentLength > int64(limit) {
		return nil, errTooLarge
	}
	buf := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, int64(limit)+1)); err != nil {
		return nil, err
	}
	if buf.Len() > limit {
		return nil, errTooLarge
	}
	return bytes.Clone(buf.Bytes()), nil
}

// transportError converts an error of net/http, which would print the URL.
func (c *Client) transportError(ctx context.Context, n *Node, err error) *Error {
	if urlErr, ok := err.(*url.Error); ok {
		err = urlErr.Err
	}
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		// Do not repeat the call: this node has used its time, and another one may be waiting.
		return errorf(ErrTimeout, "node %s did not answer within %v", n, c.timeout)
	}
	// What net/http cannot read stands in its error.
	e := errorf(ErrUnreachable, "node %s is unreachable: %w", n, &scrubbedError{Clip(n.Scrub(err.Error())), err})
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	e.again = !errors.As(err, &certificate) && !(errors.As(err, &dns) && dns.IsNotFound)
	return e
}

// statusError converts a status other than 200. The server's explanation is foreign text.
func (n *Node) statusError(resp *http.Response) *Error {
	text := http.StatusText(resp.StatusCode)
	if text != "" {
		text = " " + text
	}
	e := errorf(ErrHTTP, "node %s answered with HTTP %d%s", n, resp.StatusCode, text)
	e.Status = resp.StatusCode
	return e
}

// httpError converts a status other than 200 and the body of the response.
func (n *Node) httpError(resp *http.Response) *Error {
	head, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // only for the message
	e := n.statusError(resp)
	if a, err := parseSingle(head); (err == nil || a.Err != nil) && a.Err != nil {
		e = n.RPCError(a.Err, "with HTTP "+strconv.Itoa(resp.StatusCode))
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
