//go:build !faas_only || faas_gcp

package gcp

import (
	"bytes"
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
	"sync/atomic"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
)

const cloudPlatformScope = "https://www.googleapis.com/auth/cloud-platform"

// tokenCache gets and keeps a token. Unlike an oauth2.TokenSource it fetches under the context of the call that needs the token.
type tokenCache struct {
	source func(context.Context) (*oauth2.Token, error)
	fetch  chan struct{} // holds a value while someone fetches
	token  atomic.Pointer[oauth2.Token]
}

func newTokenCache(source func(context.Context) (*oauth2.Token, error)) *tokenCache {
	return &tokenCache{source: source, fetch: make(chan struct{}, 1)}
}

// tokenSlack is how long before it expires a token is replaced.
const tokenSlack = time.Minute

// get returns a token that is valid for a while yet. Concurrent calls share one fetch.
func (c *tokenCache) get(ctx context.Context) (string, error) {
	if t := c.token.Load(); isFresh(t) {
		return t.AccessToken, nil
	}
	select {
	case c.fetch <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-c.fetch }()
	if t := c.token.Load(); isFresh(t) {
		return t.AccessToken, nil
	}
	t, err := c.source(ctx)
	if err != nil {
		return "", err
	}
	if t == nil || t.AccessToken == "" {
		return "", errors.New("the token is empty")
	}
	c.token.Store(t)
	return t.AccessToken, nil
}

func isFresh(t *oauth2.Token) bool {
	return t != nil && (t.Expiry.IsZero() || time.Until(t.Expiry) > tokenSlack)
}

// forget makes the next get fetch a new token: Google refused this one.
func (c *tokenCache) forget() { c.token.Store(nil) }

// idToken returns the bearer function for an audience; nil where credentials are disabled.
func (e *Executor) idToken(audience string) func(context.Context) (string, error) {
	if e.idFrom == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.idTokens[audience]
	if c == nil {
		c = newTokenCache(func(ctx context.Context) (*oauth2.Token, error) { return e.idFrom(ctx, audience) })
		e.idTokens[audience] = c
	}
	return c.get
}

// credentials are Application Default Credentials, those of a file, or those of a service account that they may act as.
type credentials struct {
	set  *settings
	http *http.Client
}

// errNoIDToken is for credentials that Google issues no ID tokens for.
var errNoIDToken = errors.New("these credentials cannot get the ID token that a private function asks for")

// find returns the credentials. Its token source is bound to the context, so it is asked for once.
func (c *credentials) find(ctx context.Context) (*google.Credentials, error) {
	ctx = context.WithValue(ctx, oauth2.HTTPClient, c.http)
	params := google.CredentialsParams{Scopes: []string{cloudPlatformScope}}
	if c.set.credentialsFile == "" {
		return google.FindDefaultCredentialsWithParams(ctx, params)
	}
	text, err := os.ReadFile(c.set.credentialsFile)
	if err != nil {
		return nil, err
	}
	return fromJSON(ctx, text, params)
}

// fromJSON reads credentials that the operator chose: whatever they are, they are wanted.
func fromJSON(ctx context.Context, text []byte, params google.CredentialsParams) (*google.Credentials, error) {
	return google.CredentialsFromJSONWithTypeAndParams(ctx, text, google.CredentialsType(keyOf(text).Type), params)
}

// keyFile is what is read of credentials in JSON.
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

// accessToken returns a token for API calls.
func (c *credentials) accessToken(ctx context.Context) (*oauth2.Token, error) {
	found, err := c.find(ctx)
	if err != nil {
		return nil, err
	}
	token, err := found.TokenSource.Token()
	if err != nil || c.set.impersonate == "" {
		return token, err
	}
	var answer struct {
		AccessToken string    `json:"accessToken"`
		ExpireTime  time.Time `json:"expireTime"`
	}
	body := map[string]any{"scope": []string{cloudPlatformScope}, "lifetime": "3600s"}
	if err := c.impersonation(ctx, c.account(c.set.impersonate), "generateAccessToken", token, body, &answer); err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: answer.AccessToken, Expiry: answer.ExpireTime}, nil
}

// idToken returns an ID token for an audience: signed with a service account's key, from the metadata server, or through impersonation.
func (c *credentials) idToken(ctx context.Context, audience string) (*oauth2.Token, error) {
	found, err := c.find(ctx)
	if err != nil {
		return nil, err
	}
	key := keyOf(found.JSON)
	if c.set.impersonate != "" {
		token, err := found.TokenSource.Token()
		if err != nil {
			return nil, err
		}
		return c.impersonatedID(ctx, c.account(c.set.impersonate), token, nil, audience)
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, c.http)
	switch {
	case found.JSON == nil:
		text, err := metadata.GetWithContext(ctx, "instance/service-accounts/default/identity?format=full&audience="+url.QueryEscape(audience))
		if err != nil {
			return nil, err
		}
		return parseIDToken(strings.TrimSpace(text))
	case key.Type == string(google.ServiceAccount):
		config, err := google.JWTConfigFromJSON(found.JSON)
		if err != nil {
			return nil, err
		}
		config.PrivateClaims, config.UseIDToken = map[string]any{"target_audience": audience}, true
		return config.TokenSource(ctx).Token()
	case key.ImpersonationURL != "":
		// Who acts as the service account: the source credentials, or what an external identity is exchanged for.
		text := key.Source
		if text == nil {
			if text, err = withoutImpersonation(found.JSON); err != nil {
				return nil, err
			}
		}
		source, err := fromJSON(ctx, text, google.CredentialsParams{Scopes: []string{cloudPlatformScope}})
		if err != nil {
			return nil, err
		}
		token, err := source.TokenSource.Token()
		if err != nil {
			return nil, err
		}
		return c.impersonatedID(ctx, key.ImpersonationURL, token, key.Delegates, audience)
	}
	return nil, fmt.Errorf("%w: they are of type %q. Set option impersonate_service_account to a service account that may invoke the function (roles/run.invoker) "+
		"and that you may act as (roles/iam.serviceAccountTokenCreator), or use the key of a service account, or run on Google Cloud", errNoIDToken, key.Type)
}

// withoutImpersonation returns the JSON of external credentials that stand for the external identity itself.
func withoutImpersonation(text []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	delete(members, "service_account_impersonation_url")
	delete(members, "service_account_impersonation")
	return json.Marshal(members)
}

// account returns the URL by which a service account is impersonated.
func (c *credentials) account(email string) string {
	return c.set.credentialsURL + "v1/projects/-/serviceAccounts/" + email + ":generateAccessToken"
}

func (c *credentials) impersonatedID(ctx context.Context, account string, token *oauth2.Token, delegates []string, audience string) (*oauth2.Token, error) {
	var answer struct {
		Token string `json:"token"`
	}
	body := map[string]any{"audience": audience, "includeEmail": true, "delegates": delegates}
	if err := c.impersonation(ctx, account, "generateIdToken", token, body, &answer); err != nil {
		return nil, err
	}
	return parseIDToken(answer.Token)
}

// impersonation calls a method of the IAM Credentials API. account is the URL of its method generateAccessToken.
func (c *credentials) impersonation(ctx context.Context, account, method string, token *oauth2.Token, in, out any) error {
	base, _, _ := strings.Cut(account, ":generateAccessToken")
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+":"+method, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	token.SetAuthHeader(req)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &oauth2.RetrieveError{Response: resp, ErrorDescription: "impersonating a service account, which takes roles/iam.serviceAccountTokenCreator on it"}
	}
	return json.Unmarshal(body, out)
}

// parseIDToken reads when a token expires. It does not check the token, which is for the function's front end to do.
func parseIDToken(text string) (*oauth2.Token, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errors.New("the ID token is not a JWT")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct {
		Exp int64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(claims, &c) != nil || c.Exp == 0 {
		return nil, errors.New("the ID token does not say when it expires")
	}
	return &oauth2.Token{AccessToken: text, Expiry: time.Unix(c.Exp, 0)}, nil
}

// emailOf returns whose ID token it is; empty where it does not say.
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

// tokenError classifies a failed fetch of a token. Of the answer of the token endpoint, its text has the reason alone.
func (e *Executor) tokenError(ctx context.Context, r request, err error) *faas.Error {
	code, text := faas.ErrPermissionDenied, ""
	var refused *oauth2.RetrieveError
	var wrapped *url.Error
	switch {
	case ctx.Err() != nil:
		code, text = faas.ErrTimeout, "get a token: "+ctx.Err().Error()
	case errors.Is(err, errNoIDToken):
		text = err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		code, text, err = faas.ErrUnavailable, "get a token: the network took too long to answer", &networkTimeout{err}
	case errors.As(err, &refused) && refused.Response != nil:
		reason, description := refusal(refused)
		text = "get a token: " + join(" ", refused.Response.Status, foreign.Line(reason, 40), foreign.Line(description, 200))
		if s := refused.Response.StatusCode; s >= 500 || s == http.StatusTooManyRequests {
			code = faas.ErrUnavailable
		}
	case errors.As(err, &wrapped):
		code, text = faas.ErrUnavailable, "get a token: "+wrapped.Err.Error()
	default:
		text = "find credentials: " + foreign.Line(err.Error(), 300) + " (gcloud auth application-default login makes some; so does GOOGLE_APPLICATION_CREDENTIALS)"
	}
	failed := e.errorf(code, r, "%w", &cleanError{text, err})
	failed.NotRun = true
	return failed
}

// refusal returns why a token was refused. The library reads that of some kinds of credentials alone.
func refusal(err *oauth2.RetrieveError) (reason, description string) {
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(err.Body, &body) // what is in no shape says nothing
	return cmp.Or(err.ErrorCode, body.Error), cmp.Or(err.ErrorDescription, body.Description)
}

// cleanError is an error with a text that holds no secret, and whose cause stays reachable.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string { return e.text }
func (e *cleanError) Unwrap() error { return e.err }
