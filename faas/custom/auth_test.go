package custom_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
)

// headersSeen starts a platform without functions that keeps the headers of the last request.
func headersSeen(t *testing.T) (url string, last func() http.Header) {
	var seen atomic.Pointer[http.Header]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		seen.Store(&h)
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() http.Header {
		if h := seen.Load(); h != nil {
			return *h
		}
		return http.Header{}
	}
}

func TestStaticCredentialsAreSent(t *testing.T) {
	url, last := headersSeen(t)
	withUser := strings.Replace(url, "http://", "http://user:pass@", 1)
	for name, test := range map[string]struct {
		env, endpoint string
		options       map[string]string
		header, want  string
	}{
		"token from the option":      {"", url, map[string]string{"token": "abc"}, "Authorization", "Bearer abc"},
		"token from the environment": {"def", url, nil, "Authorization", "Bearer def"},
		"the option wins":            {"def", url, map[string]string{"token": "abc"}, "Authorization", "Bearer abc"},
		"user name in the endpoint":  {"def", withUser, nil, "Authorization", "Basic dXNlcjpwYXNz"},
		"any header":                 {"", url, map[string]string{"header": "x-api-key: abc"}, "X-Api-Key", "abc"},
		"Authorization as the header": {"def", url, map[string]string{"header": "Authorization: Key abc"}, "Authorization",
			"Key abc"},
		"nothing": {"", url, nil, "Authorization", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(custom.TokenEnv, test.env)
			e := open(t, faas.Config{Endpoint: test.endpoint, Options: test.options})
			if _, err := e.Observe(t.Context(), "svc-job0"); faas.CodeOf(err) != faas.ErrNotFound {
				t.Fatal(err)
			}
			if got := last().Get(test.header); got != test.want {
				t.Errorf("%s is %q, want %q", test.header, got, test.want)
			}
		})
	}
}

func TestCredentialsDoNotFollowRedirects(t *testing.T) {
	var reached atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer other.Close()
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path+"?token="+secret, http.StatusTemporaryRedirect)
	}))
	defer moved.Close()
	e := open(t, faas.Config{Endpoint: moved.URL,
		Options: map[string]string{"token": secret, "header": "X-Api-Key: " + secret}})
	_, observe := e.Observe(t.Context(), "svc-job0")
	_, invoke := e.Invoke(t.Context(), 0, nil)
	_, warm := e.Warm(t.Context(), 0, 1)
	for name, err := range map[string]error{"Observe": observe, "Invoke": invoke, "Warm": warm,
		"Remove": e.Remove(t.Context(), "svc-job0")} {
		if faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), other.URL) || holds(err, secret) {
			t.Errorf("%s: %v; want ErrInvalidArgument that names %s and no secret", name, err, other.URL)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
}

func TestReadsFollowRedirectsOnTheSameHost(t *testing.T) {
	p := newFake(t)
	mux := http.NewServeMux()
	mux.Handle("/", http.RedirectHandler("/", http.StatusFound))
	mux.HandleFunc("/old/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.TrimPrefix(r.URL.Path, "/old"), http.StatusMovedPermanently)
	})
	mux.Handle("/api/", p)
	server := httptest.NewServer(mux)
	defer server.Close()
	e := open(t, faas.Config{Endpoint: server.URL + "/old"})
	if _, err := e.Observe(t.Context(), "svc-job0"); faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("got %v", err)
	}
	if got := p.requests(); len(got) != 1 || got[0] != "GET /api/functions/svc-job0" {
		t.Errorf("the platform saw %q", got)
	}
}

func TestWhatThePlatformRepeatsOfACredentialIsHidden(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusUnauthorized, "bad credential %s", r.Header.Get("Authorization")+r.Header.Get("X-Api-Key"))
	}))
	defer server.Close()
	for name, options := range map[string]map[string]string{
		"token": {"token": secret}, "header": {"header": "X-Api-Key: " + secret},
		"scheme": {"header": "Authorization: Key " + secret},
	} {
		e := open(t, faas.Config{Endpoint: server.URL, Options: options})
		_, err := e.Observe(t.Context(), "svc-job0")
		if faas.CodeOf(err) != faas.ErrPermissionDenied || holds(err, secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// login is an OAuth 2.0 token endpoint whose tokens are t1, t2 and so on.
type login struct {
	t      *testing.T
	issued atomic.Int32
	expiry int
	status int
}

func (l *login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, password, ok := r.BasicAuth()
	if !ok {
		id, password = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	if id != "id" || password != secret || r.FormValue("grant_type") != "client_credentials" ||
		r.FormValue("scope") != "a b" {
		l.t.Errorf("token request with id %q, grant %q, scope %q", id, r.FormValue("grant_type"), r.FormValue("scope"))
	}
	if l.status != 0 {
		answer(w, l.status, map[string]any{"error": "invalid_client",
			"error_description": "the secret " + secret + " is wrong"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"access_token": fmt.Sprintf("t%d", l.issued.Add(1)), "token_type": "Bearer",
		"expires_in": l.expiry})
}

func oauthOptions(url string) map[string]string {
	return map[string]string{"oauth2_client_id": "id", "oauth2_client_secret": secret, "oauth2_token_url": url,
		"oauth2_scopes": "a,b"}
}

func TestOAuthTokensAreFetchedOnceAndAgainWhenRefused(t *testing.T) {
	l := &login{t: t, expiry: 3600}
	tokens := httptest.NewServer(l)
	defer tokens.Close()
	var valid atomic.Value
	valid.Store("Bearer t1")
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"result":[]}`))
	}))
	defer platform.Close()
	e := open(t, faas.Config{Endpoint: platform.URL, Options: oauthOptions(tokens.URL)})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := e.Invoke(t.Context(), 0, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := l.issued.Load(); n != 1 {
		t.Errorf("%d tokens were fetched for 20 calls", n)
	}
	valid.Store("Bearer t2") // the platform revoked the first
	_, err := e.Invoke(t.Context(), 0, nil)
	var refused *faas.Error
	if !errors.As(err, &refused) || refused.Code != faas.ErrPermissionDenied || !refused.NotRun {
		t.Errorf("with a revoked token: %v", err)
	}
	if _, err := e.Invoke(t.Context(), 0, nil); err != nil {
		t.Errorf("with a new token: %v", err)
	}
}

func TestOAuthTokenThatSoonExpiresIsReplaced(t *testing.T) {
	l := &login{t: t, expiry: 1}
	tokens := httptest.NewServer(l)
	defer tokens.Close()
	url, last := headersSeen(t)
	e := open(t, faas.Config{Endpoint: url, Options: oauthOptions(tokens.URL)})
	for _, want := range []string{"Bearer t1", "Bearer t2"} {
		if _, err := e.Observe(t.Context(), "svc-job0"); faas.CodeOf(err) != faas.ErrNotFound {
			t.Fatal(err)
		}
		if got := last().Get("Authorization"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestARefusedOAuthSecretIsPermissionDeniedAndHidden(t *testing.T) {
	tokens := httptest.NewServer(&login{t: t, status: http.StatusUnauthorized})
	defer tokens.Close()
	url, last := headersSeen(t)
	e := open(t, faas.Config{Endpoint: url, Options: oauthOptions(tokens.URL)})
	_, err := e.Invoke(t.Context(), 0, nil)
	var refused *faas.Error
	if !errors.As(err, &refused) || refused.Code != faas.ErrPermissionDenied || !refused.NotRun || holds(err, secret) {
		t.Errorf("got %v", err)
	}
	if len(last()) != 0 {
		t.Error("the platform was asked without a token")
	}
}

// authority is a certificate authority for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign},
		nil, nil)
	a.file = writePEM(t, "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) issue(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate,
	*ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func writePEM(t *testing.T, kind string, der []byte) string {
	path := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMutualTLSWithACustomAuthority(t *testing.T) {
	a := newAuthority(t)
	serverCert, serverKey := a.issue(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.cert,
		a.key)
	clientCert, clientKey := a.issue(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		a.cert, a.key)
	keyDER, err := x509.MarshalECPrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := writePEM(t, "CERTIFICATE", clientCert.Raw), writePEM(t, "EC PRIVATE KEY", keyDER)

	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	p := newFake(t)
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = discardLog()
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{serverCert.Raw}, PrivateKey: serverKey}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}
	server.StartTLS()
	defer server.Close()

	for name, test := range map[string]struct {
		options map[string]string
		want    faas.Code
	}{
		"certificate and authority": {map[string]string{"ca_file": a.file, "client_cert": certFile, "client_key": keyFile},
			faas.ErrNotFound},
		"no certificate":    {map[string]string{"ca_file": a.file}, faas.ErrPermissionDenied},
		"unknown authority": {map[string]string{"client_cert": certFile, "client_key": keyFile}, faas.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, faas.Config{Endpoint: server.URL, Options: test.options})
			if _, err := e.Observe(t.Context(), "svc-job0"); faas.CodeOf(err) != test.want {
				t.Errorf("got %v, want code %q", err, test.want)
			}
		})
	}
}

func TestOAuthUsesTheExecutorsTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, a.cert, a.key)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	tokens := httptest.NewUnstartedServer(&login{t: t, expiry: 3600})
	tokens.TLS = config
	tokens.StartTLS()
	defer tokens.Close()
	url, last := headersSeen(t)
	options := oauthOptions(tokens.URL)
	options["ca_file"] = a.file
	e := open(t, faas.Config{Endpoint: url, Options: options})
	if _, err := e.Observe(t.Context(), "svc-job0"); faas.CodeOf(err) != faas.ErrNotFound {
		t.Fatal(err)
	}
	if got := last().Get("Authorization"); got != "Bearer t1" {
		t.Errorf("Authorization is %q", got)
	}
}

// holds reports whether an error, or any error that it wraps, contains text.
func holds(err error, text string) bool {
	if err == nil {
		return false
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, err), text) {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return holds(e.Unwrap(), text)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(err error) bool { return holds(err, text) })
	}
	return false
}

// stateHolds reports whether any part of a state contains text.
func stateHolds(t *testing.T, s faas.State, text string) bool {
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b)+fmt.Sprintf("%+v", s), text)
}
