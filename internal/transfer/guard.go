package transfer

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Guard returns a transport that refuses every answer whose status is not final. After a 101 the
// connection itself is the answer's body, and no context ends a read of that. A nil next is
// http.DefaultTransport.
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
		return nil, fmt.Errorf("the server answered with status %d, which is no answer to a request", resp.StatusCode)
	}
	return resp, err
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (g *guard) CloseIdleConnections() {
	if c, ok := g.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Outlast returns a context for a request that changes something. It ends the grace after ctx does:
// a request that was sent takes effect whether or not its sender waits for the answer, and after
// whatever is done next to undo it. The values of ctx are kept. cancel releases what the context
// holds.
func Outlast(ctx context.Context, grace time.Duration) (lasting context.Context, cancel context.CancelFunc) {
	lasting, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, func() { end(context.Cause(ctx)) })
		context.AfterFunc(lasting, func() { timer.Stop() })
	})
	return lasting, func() {
		stop()
		end(context.Canceled)
	}
}
