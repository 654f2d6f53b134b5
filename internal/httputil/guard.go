package httputil

import (
	"fmt"
	"net/http"
)

// Guard returns a transport that refuses every answer whose status is not final. After a 101, the
// connection itself is the answer's body, and no context ends a read from it. If next is nil,
// http.DefaultTransport is used.
func Guard(next http.RoundTripper) http.RoundTripper {
	if next == nil {
		next = http.DefaultTransport
	}
	return &guard{next}
}

type guard struct{ next http.RoundTripper }

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if err == nil && resp.StatusCode < http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("the server answered with status %d, which is not final", resp.StatusCode)
	}
	return resp, err
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (g *guard) CloseIdleConnections() {
	if c, ok := g.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
