package platform

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// tokenHash is the hash of the bearer token. Comparing hashes takes the same time for every input.
// The zero value means no token.
type tokenHash struct {
	set bool
	sum [sha256.Size]byte
}

func hashToken(token string) tokenHash {
	return tokenHash{set: token != "", sum: sha256.Sum256([]byte(token))}
}

func (t *tokenHash) matches(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return t.set && subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1
}

var crossOrigin = http.NewCrossOriginProtection()

// authorize returns nil for a request that may be served, and otherwise the status and error to
// answer.
func (p *Platform) authorize(r *http.Request) (int, error) {
	denied := func(format string, args ...any) error {
		return notRunError(faas.ErrPermissionDenied, "authorize", format, args...)
	}
	if p.token.set {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		switch {
		case token == "" || !strings.EqualFold(scheme, "Bearer"):
			return http.StatusUnauthorized, denied("this platform needs a token: send the header Authorization: Bearer TOKEN")
		case !p.token.matches(strings.TrimSpace(token)):
			return http.StatusUnauthorized, denied("the bearer token is wrong")
		}
		return 0, nil
	}
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		host, _, err := net.SplitHostPort(addr.String())
		if err == nil && !isLoopback(host) {
			return http.StatusUnauthorized, denied("without a token this platform serves loopback connections only: start " +
				"it with a token, or connect to 127.0.0.1")
		}
		// A browser that was tricked into taking this for another host names that host.
		if err == nil && r.Host != "" && !isLoopback(httputil.HostOnly(r.Host)) {
			return http.StatusForbidden, denied("host %.100q is not a loopback name: without a token only localhost and "+
				"loopback addresses are served", r.Host)
		}
	}
	if err := crossOrigin.Check(r); err != nil {
		return http.StatusForbidden, denied("without a token no requests from web pages are served: %w", err)
	}
	return 0, nil
}

// isLoopback takes localhost in upper case, too.
func isLoopback(host string) bool { return httputil.IsLoopback(strings.ToLower(host)) }
