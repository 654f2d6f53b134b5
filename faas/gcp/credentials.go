//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	detect "cloud.google.com/go/auth/credentials"
	metadata "cloud.google.com/go/auth/credentials/idtoken"
	"cloud.google.com/go/auth/credentials/impersonate"
	"cloud.google.com/go/auth/httptransport"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
	htransport "google.golang.org/api/transport/http"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

const cloudPlatformScope = "https://www.googleapis.com/auth/cloud-platform"

// access is a transport that authorizes requests to APIs. It looks for credentials when the first
// request needs them, and again when a token was refused.
type access struct {
	open func(context.Context) (*opened, error)
	mu   sync.Mutex
	last *opened
}

// opened is a transport with credentials.
type opened struct {
	http.RoundTripper
	token auth.TokenProvider // nil: only the transport has it
	// until is when the transport is opened again; the zero time means never. Google's library
	// refreshes some tokens shortly before they expire, which is after an hour, in a goroutine that
	// nobody can end.
	until time.Time
}

const openTime = 50 * time.Minute

func (a *access) get(ctx context.Context) (*opened, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil || !a.last.until.IsZero() && time.Now().After(a.last.until) {
		found, err := a.open(ctx)
		if err != nil {
			return nil, &noToken{err}
		}
		a.last = found
	}
	return a.last, nil
}

func (a *access) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = nil
}

func (a *access) RoundTrip(req *http.Request) (*http.Response, error) {
	found, err := a.get(req.Context())
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	return found.RoundTrip(req)
}

// try gets a token if that takes no request.
func (a *access) try(ctx context.Context) error {
	found, err := a.get(ctx)
	if err == nil && found.token != nil {
		_, err = found.token.Token(ctx)
	}
	return err
}

// noToken is the error of a request that was not sent because it had no token.
type noToken struct{ err error }

func (n *noToken) Error() string { return n.err.Error() }
func (n *noToken) Unwrap() error { return n.err }

// marked returns a token, or a noToken error.
type marked struct{ auth.TokenProvider }

func (m marked) Token(ctx context.Context) (*auth.Token, error) {
	token, err := m.TokenProvider.Token(ctx)
	if err != nil {
		return nil, &noToken{err}
	}
	return token, nil
}

func isTokenError(err error) bool {
	return errors.As(err, new(*noToken)) || errors.As(err, new(*auth.Error)) || errors.As(err, new(*oauth2.RetrieveError))
}

// credentials are Application Default Credentials, those of a file, or those of a service account
// that these may impersonate.
type credentials struct {
	set  *settings
	base http.RoundTripper
}

// errNoIDToken is the error of credentials for which Google issues no ID tokens.
var errNoIDToken = errors.New("these credentials cannot get the ID token that a private function asks for")

// tokenTransport is the transport of requests for tokens. If an endpoint is unavailable or refuses
// an impersonation, the error is typed, which Google's library does for other errors only. The
// address to replaces that of the IAM Credentials API, which the library does not let a caller
// choose.
type tokenTransport struct {
	next http.RoundTripper
	to   string
}

const googleIAMCredentials = "https://iamcredentials.googleapis.com/"

func (t tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	rest, impersonates := strings.CutPrefix(req.URL.String(), googleIAMCredentials)
	if impersonates && t.to != googleIAMCredentials {
		to, err := url.Parse(t.to + rest)
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.URL, req.Host = to, to.Host
	}
	impersonates = impersonates || strings.HasSuffix(req.URL.Path, ":generateAccessToken")
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 || !impersonates && !isUnavailable(resp.StatusCode) {
		return resp, nil
	}
	defer resp.Body.Close()
	resp.Body = io.NopCloser(io.LimitReader(resp.Body, maxErrorText))
	return nil, googleapi.CheckResponse(resp)
}

// isUnavailable reports whether a status means that the service is down or overloaded at the
// moment.
func isUnavailable(status int) bool {
	class := kit.Rules(nil).Of(kit.Answer{Status: status}).Class
	return class == kit.Outage || class == kit.Throttled
}

func (c *credentials) tokens(to string) *http.Client {
	return &http.Client{Transport: tokenTransport{c.base, to}}
}

// keyFile is the part of credentials in JSON that decides how Google's library reads them.
type keyFile struct {
	Type             string          `json:"type"`
	ImpersonationURL string          `json:"service_account_impersonation_url"`
	Source           json.RawMessage `json:"source_credentials"`
	Delegates        []string        `json:"delegates"`
}

func keyOf(text []byte) keyFile {
	var k keyFile
	_ = json.Unmarshal(text, &k) // the library that reads it whole says what is wrong with it
	return k
}

// find returns the credentials, before any impersonation.
func (c *credentials) find() (*auth.Credentials, error) {
	if c.set.credentialsFile == "" {
		return detect.DetectDefault(c.detection())
	}
	text, err := os.ReadFile(c.set.credentialsFile)
	if err != nil {
		return nil, err
	}
	return c.fromJSON(text)
}

// fromJSON reads credentials of any type, because the operator chose them.
func (c *credentials) fromJSON(text []byte) (*auth.Credentials, error) {
	return detect.NewCredentialsFromJSON(detect.CredType(keyOf(text).Type), text, c.detection())
}

func (c *credentials) detection() *detect.DetectOptions {
	return &detect.DetectOptions{
		Scopes: []string{cloudPlatformScope}, Client: c.tokens(c.set.credentialsURL),
		EarlyTokenRefresh: tokenSlack, DisableAsyncRefresh: true, // no refresh outlives the call that began it
	}
}

// authorized returns a client that sends tokens of the credentials, and names the project that
// pays.
func authorized(creds *auth.Credentials, payer string, base http.RoundTripper) (*http.Client, error) {
	client := &http.Client{Transport: base}
	if payer != "" {
		client.Transport = quotaProject{base, payer}
	}
	return client, httptransport.AddAuthorizationMiddleware(client, creds)
}

// quotaProject is a transport that names the project to which a call is charged.
type quotaProject struct {
	next    http.RoundTripper
	project string
}

func (q quotaProject) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("X-Goog-User-Project", q.project)
	return q.next.RoundTrip(req)
}

// open finds credentials for API calls.
func (c *credentials) open(ctx context.Context) (*opened, error) {
	creds, err := c.find()
	if err != nil {
		return nil, err
	}
	payer, err := creds.QuotaProjectID(ctx)
	if err != nil {
		return nil, err
	}
	if c.set.impersonate == "" {
		return c.sends(creds, payer)
	}
	client, err := authorized(creds, payer, tokenTransport{c.base, c.set.credentialsURL})
	if err != nil {
		return nil, err
	}
	creds, err = impersonate.NewCredentials(&impersonate.CredentialsOptions{
		TargetPrincipal: c.set.impersonate, Scopes: []string{cloudPlatformScope}, Credentials: creds, Client: client,
	})
	if err != nil {
		return nil, err
	}
	found, err := c.sends(creds, payer)
	if err != nil {
		return nil, err
	}
	found.until = time.Now().Add(openTime)
	return found, nil
}

// authorize returns a transport that authorizes API calls with the given credentials.
func (c *credentials) authorize(ctx context.Context, creds *auth.Credentials) (*opened, error) {
	payer, err := creds.QuotaProjectID(ctx)
	if err != nil {
		return nil, err
	}
	return c.sends(creds, payer)
}

func (c *credentials) sends(creds *auth.Credentials, payer string) (*opened, error) {
	creds = auth.NewCredentials(&auth.CredentialsOptions{
		TokenProvider:          marked{creds.TokenProvider},
		UniverseDomainProvider: auth.CredentialsPropertyFunc(creds.UniverseDomain),
	})
	client, err := authorized(creds, payer, c.base)
	if err != nil {
		return nil, err
	}
	return &opened{RoundTripper: client.Transport, token: creds}, nil
}

// idToken returns an ID token for an audience. It is signed with a service account's key, or comes
// from the metadata server or through impersonation.
func (c *credentials) idToken(ctx context.Context, audience string) (*oauth2.Token, error) {
	from, err := c.idProvider(audience)
	if err != nil {
		return nil, err
	}
	token, err := from.Token(ctx)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token.Value, Expiry: token.Expiry}, nil
}

// idProvider chooses which part of Google's library gets ID tokens. The library's own choice uses a
// client of its own for a key, and impersonates without a token and without delegates.
func (c *credentials) idProvider(audience string) (auth.TokenProvider, error) {
	creds, err := c.find()
	if err != nil {
		return nil, err
	}
	key := keyOf(creds.JSON())
	switch {
	case c.set.impersonate != "":
		return c.impersonated(creds, c.set.credentialsURL, c.set.impersonate, nil, audience)
	case creds.JSON() == nil:
		return metadata.NewCredentials(&metadata.Options{Audience: audience})
	case key.Type == string(detect.ServiceAccount):
		config, err := google.JWTConfigFromJSON(creds.JSON())
		if err != nil {
			return nil, err
		}
		return auth.New2LOTokenProvider(&auth.Options2LO{
			Email: config.Email, PrivateKey: config.PrivateKey, PrivateKeyID: config.PrivateKeyID, TokenURL: config.TokenURL,
			PrivateClaims: map[string]any{"target_audience": audience}, UseIDToken: true, Client: c.tokens(c.set.credentialsURL),
		})
	case key.ImpersonationURL != "":
		// The impersonator is the source credentials, or the token for which an external identity is
		// exchanged.
		text := []byte(key.Source)
		if text == nil {
			if text, err = withoutImpersonation(creds.JSON()); err != nil {
				return nil, err
			}
		}
		source, err := c.fromJSON(text)
		if err != nil {
			return nil, err
		}
		to, account, _ := strings.Cut(key.ImpersonationURL, "v1/projects/-/serviceAccounts/")
		account, _, _ = strings.Cut(account, ":")
		return c.impersonated(source, to, account, key.Delegates, audience)
	}
	return nil, fmt.Errorf("%w: they are of type %q. Set option impersonate_service_account to a service account that "+
		"may invoke the function (roles/run.invoker) "+
		"and that you may act as (roles/iam.serviceAccountTokenCreator), or use the key of a service account, or run on "+
		"Google Cloud", errNoIDToken, key.Type)
}

// impersonated returns a provider of a service account's ID tokens, which come from the IAM
// Credentials API at to.
func (c *credentials) impersonated(
	source *auth.Credentials, to, account string, delegates []string, audience string,
) (auth.TokenProvider, error) {
	client, err := authorized(source, "", tokenTransport{c.base, to})
	if err != nil {
		return nil, err
	}
	for i, one := range delegates { // a file has their whole names
		delegates[i] = lastSegment(one)
	}
	return impersonate.NewIDTokenCredentials(&impersonate.IDTokenOptions{
		Audience: audience, TargetPrincipal: account, IncludeEmail: true, Delegates: delegates, Credentials: source,
		Client: client,
	})
}

// withoutImpersonation returns the JSON of external credentials for the external identity itself.
func withoutImpersonation(text []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	delete(members, "service_account_impersonation_url")
	delete(members, "service_account_impersonation")
	return json.Marshal(members)
}

// chosen are credentials that the caller's client options name.
type chosen struct {
	opts []option.ClientOption
	base http.RoundTripper
}

// choose applies client options. It returns the HTTP client that they name or nil, the endpoint
// that they name or "", and whether they send credentials.
func choose(ctx context.Context, opts []option.ClientOption) (named *http.Client, endpoint string, auths bool,
	err error) {
	marker := &http.Client{}
	look := func(more ...option.ClientOption) (*http.Client, string, error) {
		all := append([]option.ClientOption{option.WithHTTPClient(marker)}, opts...)
		// An HTTP client excludes a quota project and a reason, and here the caller did not ask for one.
		all = append(all, option.WithQuotaProject(""), option.WithRequestReason(""))
		return htransport.NewClient(ctx, append(all, more...)...)
	}
	named, endpoint, err = look()
	if err != nil || named != marker {
		return named, endpoint, true, err
	}
	// Options cannot be read. To options without authentication no credentials can be added, and they
	// can be told again to have none.
	_, _, refused := look(option.WithTokenSource(oauth2.StaticTokenSource(nil)))
	_, _, again := look(option.WithoutAuthentication())
	return nil, endpoint, refused == nil || again != nil, nil
}

// context makes Google's libraries fetch tokens through the given HTTP client, even after the call
// is over.
func (c *chosen) context(ctx context.Context) context.Context {
	return context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, &http.Client{Transport: c.base})
}

func (c *chosen) open(ctx context.Context) (*opened, error) {
	opts := append([]option.ClientOption{option.WithScopes(cloudPlatformScope), option.WithTelemetryDisabled()}, c.opts...)
	transport, err := htransport.NewTransport(c.context(ctx), c.base, opts...)
	if err != nil {
		return nil, err
	}
	return &opened{RoundTripper: transport, until: time.Now().Add(openTime)}, nil
}

func (c *chosen) idToken(ctx context.Context, audience string) (*oauth2.Token, error) {
	source, err := idtoken.NewTokenSource(c.context(ctx), audience, c.opts...)
	if err != nil {
		return nil, fmt.Errorf("%w (WithIDTokenSource gives others): %w", errNoIDToken, err)
	}
	return source.Token()
}

// tokenSlack is how long before its expiry a token is replaced.
const tokenSlack = time.Minute

func isFresh(t *oauth2.Token) bool {
	return t.Expiry.IsZero() || time.Until(t.Expiry) > tokenSlack
}

// idToken returns the bearer function for an audience, or nil if credentials are disabled.
// Concurrent calls share one fetch.
func (e *Executor) idToken(audience string) func(context.Context) (string, error) {
	if e.idFrom == nil {
		return nil
	}
	return func(ctx context.Context) (string, error) {
		fetched := false
		for {
			token, err := e.idTokens.Do(ctx, audience, func(ctx context.Context) (*oauth2.Token, error) {
				fetched = true
				token, err := e.idFrom(ctx, audience)
				if err == nil && (token == nil || token.AccessToken == "") {
					err = errors.New("the token is empty")
				}
				return token, err
			})
			if err != nil {
				return "", err
			}
			if fetched || isFresh(token) {
				return token.AccessToken, nil
			}
			e.idTokens.ForgetIf(audience, token, func(a, b *oauth2.Token) bool { return a == b })
		}
	}
}

// emailOf returns the email address of an ID token's owner, or "" if the token does not name it.
func emailOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct {
		Email string `json:"email"`
	}
	if err != nil || json.Unmarshal(claims, &c) != nil {
		return ""
	}
	return c.Email
}

// tokenError classifies a failed fetch of a token. Of the token endpoint's answer, the text
// contains the reason only.
func (e *Executor) tokenError(ctx context.Context, r request, err error) *faas.Error {
	code, text := faas.ErrPermissionDenied, ""
	var refused *auth.Error
	var old *oauth2.RetrieveError
	var api *googleapi.Error
	var wrapped *url.Error
	var timeout interface{ Timeout() bool }
	switch {
	case ctx.Err() != nil:
		code, text = faas.ErrTimeout, "get a token: "+ctx.Err().Error()
	case errors.Is(err, errNoIDToken):
		text = err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		code, text, err = faas.ErrUnavailable, "get a token: the network took too long to answer", &networkTimeout{err}
	case errors.As(err, &api):
		said := e.refuse(r, &answer{status: api.Code, header: api.Header, body: []byte(api.Body)})
		means := said.means()
		if means.Code == faas.ErrThrottled {
			means.Code = faas.ErrUnavailable
		}
		means.Remedy = e.remedy(said, means)
		failed := kit.Fail(r.op, faas.GCPFunctions, r.job, means, fmt.Errorf("get a token: %w", said))
		failed.NotRun = true
		return failed
	case errors.As(err, &refused) && refused.Response != nil:
		text = refusedToken(refused.Response.Status, refused.Body)
	case errors.As(err, &old) && old.Response != nil:
		text = refusedToken(old.Response.Status, old.Body)
	case errors.As(err, &wrapped):
		code, text = faas.ErrUnavailable, "get a token: "+wrapped.Err.Error()
	default:
		text = "find credentials: " + sanitize.Line(err.Error(), 300) +
			" (gcloud auth application-default login makes some; so does GOOGLE_APPLICATION_CREDENTIALS)"
	}
	failed := e.errorf(code, r, "%w", &cleanError{text, err})
	failed.NotRun = true
	return failed
}

// headerOf returns the header of the answer that refused a token, or nil.
func headerOf(err error) http.Header {
	var refused *auth.Error
	var old *oauth2.RetrieveError
	var api *googleapi.Error
	switch {
	case errors.As(err, &api):
		return api.Header
	case errors.As(err, &refused) && refused.Response != nil:
		return refused.Response.Header
	case errors.As(err, &old) && old.Response != nil:
		return old.Response.Header
	}
	return nil
}

// refusedToken says why a token was refused. Google's library reads the reason for some kinds of
// credentials only.
func refusedToken(status string, body []byte) string {
	var said struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(body, &said) // what is in no shape says nothing
	return "get a token: " + join(" ", cmp.Or(status, "refused"), sanitize.Line(said.Error, 40),
		sanitize.Line(said.Description, 200))
}

// cleanError is an error whose text holds no secret and whose cause stays reachable.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string { return e.text }
func (e *cleanError) Unwrap() error { return e.err }
