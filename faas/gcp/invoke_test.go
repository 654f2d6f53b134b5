//go:build !faas_only || faas_gcp

package gcp_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

// keyFile writes the key of a service account whose token endpoint is the fake.
func keyFile(t testing.TB, s *gcptest.Server) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeJSON(t, map[string]string{
		"type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key_id": "1", "project_id": "p",
		"token_uri":   s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
}

func writeJSON(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPrivateFunctionsAreCalledWithAnIDTokenFetchedOnce(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.RequireIDToken = true
	var authorized atomic.Bool
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v2/") {
			authorized.Store(r.Header.Get("Authorization") == "Bearer access-token-of-the-test")
		}
		if strings.HasPrefix(r.URL.Path, "/signed/") && r.Header.Get("Authorization") != "" {
			t.Error("credentials were sent to the upload URL")
		}
		return false
	}
	e := open(t, config(s, "private", "disable_credentials=false", "credentials_file="+keyFile(t, s)))
	converge(t, e, units(t, e, function(0))[0])
	for range 3 {
		if r, err := e.Invoke(context1m(t), 0, []byte("x")); err != nil || string(r.Output) != "x" {
			t.Fatalf("Invoke: %v, %v", r, err)
		}
	}
	if !authorized.Load() {
		t.Error("the API was called without an access token")
	}
	if calls := s.Calls("/token"); len(calls) != 2 { // one access token, one ID token
		t.Errorf("tokens: %v", calls)
	}
	_, err := open(t, config(s, "private")).Invoke(context1m(t), 0, nil)
	wantError(t, err, faas.ErrPermissionDenied, "roles/run.invoker")
	if failed := new(faas.Error); !errors.As(err, &failed) || !failed.NotRun {
		t.Error("NotRun is false")
	}
}

// A wrong token is not a missing permission. It needs another remedy, and Google says why it is
// wrong.
func TestARefusedTokenSaysWhy(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.RequireIDToken = true
	e := open(t, config(s, "token", "disable_credentials=false", "credentials_file="+keyFile(t, s)),
		gcp.WithIDTokenSource(func(context.Context, string) (*oauth2.Token, error) {
			return &oauth2.Token{AccessToken: "wrong"}, nil
		}))
	converge(t, e, units(t, e, function(0))[0])
	_, err := e.Invoke(context1m(t), 0, nil)
	wantError(t, err, faas.ErrPermissionDenied, "could not be verified", "clock")
	if strings.Contains(err.Error(), "add-iam-policy-binding") {
		t.Errorf("the remedy is that of a missing permission: %v", err)
	}
}

// A deployment ends once the invokers may call the function, as far as that is visible from here.
func TestANewInvokerIsWaitedFor(t *testing.T) {
	runsHere(t)
	for name, test := range map[string]struct {
		options []string
		opts    []gcp.Option
	}{
		"everybody": {options: []string{"public=true"}},
		"the caller": {options: []string{"invokers=serviceAccount:caller@test-project.iam.gserviceaccount.com",
			"disable_credentials=false"}},
		"an emulator": {options: []string{"invokers=serviceAccount:caller@test-project.iam.gserviceaccount.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			s.PolicyDelay = 3
			e := open(t, config(s, "invokers", append(test.options, "credentials_file="+keyFile(t, s))...), test.opts...)
			converge(t, e, units(t, e, function(0))[0])
			if r, err := e.Invoke(context1m(t), 0, []byte("x")); err != nil || string(r.Output) != "x" {
				t.Errorf("the first call: %v, %v", r, err)
			}
		})
	}
}

// The error says why a key is refused. A token endpoint that does not answer is not a missing
// permission.
func TestARefusedKeySaysWhy(t *testing.T) {
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "key", "disable_credentials=false", "credentials_file="+keyFile(t, s)))
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/token" {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant",`+
			`"error_description":"Invalid JWT: Token must be a short-lived token and in a reasonable timeframe."}`)
		return true
	}
	_, err := e.Observe(context1m(t), "key-job0")
	wantError(t, err, faas.ErrPermissionDenied, "invalid_grant", "reasonable timeframe")
}

// An answer that switches protocols has a body without an end.
func TestAnAnswerThatSwitchesProtocolsEnds(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprint(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		buf.Flush()
	}))
	defer server.Close()
	e := open(t, faas.Config{Service: "switch", ProjectID: "p",
		Options: map[string]string{"functions_endpoint": server.URL, "disable_credentials": "true"}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := e.Observe(ctx, "switch-job0")
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(time.Minute):
		t.Fatal("it hangs although its context has ended")
	}
}

func TestServiceAccountsCanBeImpersonated(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.RequireIDToken = true
	var key json.RawMessage
	text, err := os.ReadFile(keyFile(t, s))
	if err == nil {
		err = json.Unmarshal(text, &key)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS", s.URL)
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v2/") && r.Header.Get("Authorization") != "Bearer impersonated-token-of-the-test" {
			gcptest.Fail(w, 401, "UNAUTHENTICATED", "not the impersonated account")
			return true
		}
		return false
	}
	account := s.URL + "/v1/projects/-/serviceAccounts/x@p.iam.gserviceaccount.com:generateAccessToken"
	for name, options := range map[string][]string{
		"option": {"credentials_file=" + writeJSON(t, key), "impersonate_service_account=x@p.iam.gserviceaccount.com"},
		"file": {"credentials_file=" + writeJSON(t, map[string]any{
			"type": "impersonated_service_account", "source_credentials": key,
			"service_account_impersonation_url": account,
		})},
		"workload identity": {"credentials_file=" + writeJSON(t, map[string]any{
			"type":               "external_account",
			"audience":           "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b",
			"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": s.URL + "/sts",
			"credential_source":                 map[string]string{"file": writeJSON(t, "a token of another cloud")},
			"service_account_impersonation_url": account,
		})},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, config(s, "impersonate", append(options, "disable_credentials=false")...))
			converge(t, e, units(t, e, function(0))[0])
			if _, err := e.Invoke(context1m(t), 0, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUserCredentialsAreToldWhatToDo(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "user"))
	converge(t, e, units(t, e, function(0))[0])
	user := writeJSON(t, map[string]string{"type": "authorized_user", "client_id": "x",
		"client_secret": "the-secret-value", "refresh_token": "z"})
	e = open(t, config(s, "user", "disable_credentials=false", "credentials_file="+user),
		gcp.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t"})))
	_, err := e.Invoke(context1m(t), 0, nil)
	wantError(t, err, faas.ErrPermissionDenied, "authorized_user", "impersonate_service_account")
	e = open(t, config(s, "user", "public=true", "disable_credentials=false", "credentials_file="+user),
		gcp.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t"})))
	if _, err := e.Invoke(context1m(t), 0, nil); err != nil { // a public function needs no token
		t.Error(err)
	}
}

func TestTokenSourcesOfTheCaller(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.RequireIDToken = true
	var audience atomic.Value
	e := open(t, config(s, "own", "disable_credentials=false"),
		gcp.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t"})),
		gcp.WithIDTokenSource(func(_ context.Context, aud string) (*oauth2.Token, error) {
			audience.Store(aud)
			return &oauth2.Token{AccessToken: gcptest.IDToken(aud)}, nil
		}))
	state := converge(t, e, units(t, e, function(0))[0])
	if _, err := e.Invoke(context1m(t), 0, nil); err != nil {
		t.Fatal(err)
	}
	if audience.Load() != state.Endpoint {
		t.Errorf("audience %v, want %s", audience.Load(), state.Endpoint)
	}
}

func TestTheMetadataServerGivesTokens(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.RequireIDToken = true
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		switch {
		case strings.HasSuffix(r.URL.Path, "/identity"):
			_, _ = w.Write([]byte(gcptest.IDToken(r.URL.Query().Get("audience"))))
		case strings.HasSuffix(r.URL.Path, "/token"):
			_, _ = w.Write([]byte(`{"access_token":"t","expires_in":3600,"token_type":"Bearer"}`))
		}
	}))
	defer metadata.Close()
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(metadata.URL, "http://"))
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	e := open(t, config(s, "metadata", "disable_credentials=false"))
	converge(t, e, units(t, e, function(0))[0])
	if _, err := e.Invoke(context1m(t), 0, nil); err != nil {
		t.Fatal(err)
	}
}

func TestPublicFunctionsAreOpenedAndClosedAgain(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.RequireIDToken = true
	e := open(t, config(s, "public", "public=true", "invokers=serviceAccount:b@p.iam.gserviceaccount.com"))
	u := units(t, e, function(0))[0]
	service := "projects/test-project/locations/us-central1/services/" + u.ID
	// Somebody changes the policy once between read and write.
	s.Intercept = once(1, "setIamPolicy", func(w http.ResponseWriter, r *http.Request) {
		s.SetPolicy(service, "roles/run.viewer", "user:c@example.com")
		gcptest.Fail(w, 409, "ABORTED", "There were concurrent policy changes")
	})
	converge(t, e, u)
	if _, err := e.Invoke(context1m(t), 0, nil); err != nil {
		t.Fatal(err)
	}
	if got := s.Allowed(service, "roles/run.invoker"); !slices.Equal(
		got, []string{"allUsers", "serviceAccount:b@p.iam.gserviceaccount.com"}) {
		t.Errorf("invokers: %v", got)
	}
	if got := s.Allowed(service, "roles/run.viewer"); len(got) != 1 {
		t.Errorf("the viewer is lost: %v", got)
	}
	if state, err := e.Observe(context1m(t), u.ID); err != nil || !state.Current(u) {
		t.Errorf("state %+v, error %v: not current", state, err)
	}
	converge(t, open(t, config(s, "public", "invokers=serviceAccount:b@p.iam.gserviceaccount.com")), u)
	if got := s.Allowed(service, "roles/run.invoker"); slices.Contains(got, "allUsers") {
		t.Errorf("everybody still may: %v", got)
	}
}

func TestARefusalToOpenAFunctionNamesTheUsualCause(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	u := units(t, open(t, config(s, "refused", "public=true")), function(0))[0]
	for message, refusal := range map[string]http.HandlerFunc{
		"permitted customer": answer(400, "FAILED_PRECONDITION",
			"One or more users named in the policy do not belong to a permitted customer"),
		"roles/run.admin": answer(403, "PERMISSION_DENIED", "Permission 'run.services.setIamPolicy' denied"),
	} {
		s.Intercept = once(1, "setIamPolicy", refusal)
		_, err := open(t, config(s, "refused", "public=true")).Converge(context1m(t), u, nil, nil)
		wantError(t, err, faas.ErrPermissionDenied, "organization policy", message)
	}
}

func TestAnInvocationIsOneRequest(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "one"))
	converge(t, e, units(t, e, function(0))[0])
	e = open(t, config(s, "one"))
	var requests atomic.Int64
	s.Intercept = func(http.ResponseWriter, *http.Request) bool { requests.Add(1); return false }
	for range 5 {
		if _, err := e.Invoke(context1m(t), 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := requests.Load(); n != 6 { // and one to find the URL
		t.Errorf("%d requests", n)
	}
}

func TestAnswersOfTheFrontEnd(t *testing.T) {
	s := gcptest.Start(t, builder)
	var status int
	var body string
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v2/") {
			_, _ = w.Write([]byte(`{"name":"x","state":"ACTIVE","labels":{"blueprint-service":"front"},` +
				`"serviceConfig":{"uri":"` + s.URL + `/fn/x"}}`))
			return true
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	}
	e := open(t, config(s, "front"))
	for _, test := range []struct {
		status int
		body   string
		code   faas.Code
		notRun bool
	}{
		{429, "Rate exceeded.", faas.ErrThrottled, true},
		{503, "Service Unavailable", faas.ErrUnavailable, false},
		{503, "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
			faas.ErrFunctionFailed, false},
		{500, "Internal Server Error", faas.ErrFunctionFailed, false},
		{504, "upstream request timeout", faas.ErrTimeout, false},
		{401, "<html>", faas.ErrPermissionDenied, true},
		{403, "<html>", faas.ErrPermissionDenied, true},
		{404, "<html>", faas.ErrNotFound, true},
		{404, `{"error":"no such job","code":"NOT_FOUND","details":{}}`, faas.ErrNotFound, true},
		{413, "", faas.ErrTooLarge, true},
		{302, "", faas.ErrUnavailable, false},
		{200, "hello", faas.ErrUnavailable, false},
		{200, `{"job_id":1,"result":[],"success":true}`, faas.ErrUnavailable, false},
		{200, `{"job_id":0,"result":[],"success":false,"error":"no luck"}`, faas.ErrFunctionFailed, false},
		{500, `{"job_id":0,"success":false,"error":"exit status 3","code":"exit",` +
			`"details":{"exit_code":3,"log_tail":"oh no"}}`, faas.ErrFunctionFailed, false},
	} {
		status, body = test.status, test.body
		_, err := e.Invoke(context1m(t), 0, nil)
		var failed *faas.Error
		if !errors.As(err, &failed) || failed.Code != test.code || failed.NotRun != test.notRun {
			t.Errorf("%d %s: got %v (not run: %v), want code %q (not run: %v)", test.status, test.body, err, failed.NotRun,
				test.code, test.notRun)
		}
		if test.code == faas.ErrThrottled && failed.RetryAfter != 7*time.Second {
			t.Errorf("RetryAfter is %v", failed.RetryAfter)
		}
	}
}

// plainBinary answers only {"result":[...]}, like binaries that do not know this module.
const plainBinary = `#!/bin/sh
read -r request
echo "log of $KEY" >&2
case "$request" in
*'"job_id":1,'*) echo '{"success":false,"error":"no luck"}'; exit 4;;
*'"job_id":2,'*) exit 3;;
*'"job_id":3,'*) sleep 1000 & echo '{"result":[4]}';;
*) echo '{"result":[1,2,3]}';;
esac
`

func TestABinaryThatSpeaksOnlyStdioRuns(t *testing.T) {
	runsHere(t)
	bin := script(t, plainBinary)
	s := gcptest.Start(t, builder)
	s.LoseExecutable = true
	e := open(t, config(s, "plain"))
	for _, u := range packed(t, e, bin, function(0), function(1), function(2), function(3)) {
		converge(t, e, u)
	}
	if r, err := e.Invoke(context1m(t), 0, nil); err != nil || string(r.Output) != "\x01\x02\x03" {
		t.Errorf("Invoke: %v, %v", r, err)
	}
	// The binary leaves a process behind that holds stdout open.
	if r, err := e.Invoke(context1m(t), 3, nil); err != nil || string(r.Output) != "\x04" {
		t.Errorf("Invoke: %v, %v", r, err)
	}
	if n, err := e.Warm(context1m(t), 0, 2); err != nil || n != 2 {
		t.Errorf("Warm: %d, %v", n, err)
	}
	for job, want := range map[uint32]faas.FunctionError{
		1: {Message: "no luck", ExitCode: 4}, 2: {Message: "exit status 3", ExitCode: 3}} {
		_, err := e.Invoke(context1m(t), job, nil)
		var failed *faas.FunctionError
		if !errors.As(err, &failed) || failed.Message != want.Message || failed.ExitCode != want.ExitCode {
			t.Errorf("job %d: %v, want %v", job, err, &want)
		}
	}
	_, err := open(t, config(s, "plain", "mode=cloud-run", "bucket=bbb")).Units(bin, []faas.Function{function(0)})
	wantError(t, err, faas.ErrUnsupported, "mode functions")
}
