package platform

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// shutdowns ends requests of unlimited duration when their server is shut down, because the server
// waits for them. The zero value is ready to use.
type shutdowns struct {
	mu      sync.Mutex
	servers map[*http.Server]context.Context
}

// of returns a context that ends when the server of the request is shut down.
func (s *shutdowns) of(r *http.Request) context.Context {
	srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return context.Background()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx, ok := s.servers[srv]; ok {
		return ctx
	}
	ctx, cancel := context.WithCancel(context.Background())
	if s.servers == nil {
		s.servers = map[*http.Server]context.Context{}
	}
	s.servers[srv] = ctx
	srv.RegisterOnShutdown(func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.servers, srv)
	})
	return ctx
}

// onStop calls f on its own goroutine when the request's server is shut down or the platform is
// closed, unless stop is called first.
func (p *Platform) onStop(r *http.Request, f func()) (stop func()) {
	server := context.AfterFunc(p.shutdowns.of(r), f)
	platform := context.AfterFunc(p.closing, f)
	return func() {
		server()
		platform()
	}
}

// errStopping is the error of an upload that is still arriving when the platform stops.
var errStopping = errors.New("the platform is stopping: deploy again when it is back")

// Listen listens on a TCP address for [Platform.Server]. Without [WithToken], an address other than
// a loopback one is an ErrInvalidArgument, because everybody who used it would be refused.
func (p *Platform) Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, notRunError(faas.ErrInvalidArgument, "listen", "%w", err)
	}
	if err := p.checkListener(l); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (p *Platform) checkListener(l net.Listener) error {
	host, _, err := net.SplitHostPort(l.Addr().String())
	if err != nil || p.token.set || isLoopback(host) {
		return nil
	}
	return notRunError(faas.ErrInvalidArgument, "listen",
		"%s is not a loopback address, and there is no token: requests from other machines would all be refused. Use "+
			"WithToken, or listen on 127.0.0.1", l.Addr())
}
