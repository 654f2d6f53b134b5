package custom

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// tokenSource fetches and keeps an OAuth 2.0 token. Unlike an oauth2.TokenSource, it fetches under
// the context of the call that needs the token.
type tokenSource struct {
	config *clientcredentials.Config
	client *http.Client
	clean  *sanitize.Cleaner // is to hide the tokens
	fetch  chan struct{}     // holds a value while someone fetches
	token  atomic.Pointer[oauth2.Token]

	earlier, last string // tokens, known to whoever fetches
}

func newTokenSource(config *clientcredentials.Config, client *http.Client, clean *sanitize.Cleaner) *tokenSource {
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &tokenSource{config: config, client: &c, clean: clean, fetch: make(chan struct{}, 1)}
}

// tokenSlack is how long before its expiry a token is replaced.
const tokenSlack = 10 * time.Second

// get returns a token that stays valid for a while. Concurrent calls share one fetch.
func (s *tokenSource) get(ctx context.Context) (string, error) {
	if t := s.token.Load(); isFresh(t) {
		return t.AccessToken, nil
	}
	select {
	case s.fetch <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-s.fetch }()
	if t := s.token.Load(); isFresh(t) {
		return t.AccessToken, nil
	}
	t, err := s.config.Token(context.WithValue(ctx, oauth2.HTTPClient, s.client))
	if err != nil {
		return "", err
	}
	s.clean.Add(t.AccessToken)
	// The token before the last is no longer sent.
	s.clean.Forget(s.earlier)
	s.earlier, s.last = s.last, t.AccessToken
	s.token.Store(t)
	return t.AccessToken, nil
}

func isFresh(t *oauth2.Token) bool {
	return t != nil && (t.Expiry.IsZero() || time.Until(t.Expiry) > tokenSlack)
}

// forget makes the next get fetch a new token, because the platform refused this one.
func (s *tokenSource) forget() { s.token.Store(nil) }

// tokenError classifies a failed fetch. Of the token endpoint's text it contains only the standard
// error code.
func (e *Executor) tokenError(ctx context.Context, r request, err error) *faas.Error {
	var refused *oauth2.RetrieveError
	var wrapped *url.Error
	code, cause, after := faas.ErrUnavailable, errors.New("the token endpoint gave no usable answer"), time.Duration(0)
	switch {
	case ctx.Err() != nil:
		code, cause = faas.ErrTimeout, ctx.Err()
	case errors.As(err, &refused) && refused.Response != nil:
		status := refused.Response.StatusCode
		if status >= 400 && status < 500 && status != http.StatusTooManyRequests {
			code = faas.ErrPermissionDenied
		}
		after = httputil.RetryAfter(refused.Response.Header, time.Now())
		cause = fmt.Errorf("status %d %s", status, e.clean.Line(refused.ErrorCode, 40))
	case errors.As(err, &wrapped):
		cause = e.without(wrapped.Err)
	}
	failed := e.errorf(code, r, "get an OAuth 2.0 token from %s: %w", faas.RedactURL(e.set.oauth.TokenURL), cause)
	failed.NotRun, failed.RetryAfter = true, after
	return failed
}
