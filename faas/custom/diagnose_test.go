package custom_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// finding is an expected check: its status, and parts of its detail and of its remedy.
type finding struct {
	status         faas.CheckStatus
	detail, remedy string
}

func wantFindings(t *testing.T, checks []faas.Check, want map[string]finding) {
	t.Helper()
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
		f, named := want[c.Name]
		if !named {
			if c.Status == faas.CheckFailed || c.Status == faas.CheckWarning {
				t.Errorf("%s is %s: %s", c.Name, c.Status, c.Detail)
			}
			continue
		}
		var e *faas.Error
		if c.Status != f.status || !strings.Contains(c.Detail, f.detail) || !strings.Contains(c.Remedy, f.remedy) ||
			c.Status == faas.CheckFailed && (c.Remedy == "" || !errors.As(c.Err, &e)) {
			t.Errorf("%s is %q: %s\nremedy: %s\nerror: %v\nwant %q with %q and the remedy %q", c.Name, c.Status, c.Detail,
				c.Remedy, c.Err, f.status, f.detail, f.remedy)
		}
	}
	if diff := cmp.Diff([]string{"endpoint", "credentials", "protocol", "limits", "clock"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestDiagnoseTellsWhatIsWrongWithAPlatform(t *testing.T) {
	t.Setenv(custom.TokenEnv, "")
	const (
		ok      = faas.CheckOK
		warning = faas.CheckWarning
		failed  = faas.CheckFailed
		skipped = faas.CheckSkipped
	)
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	unreached := map[string]finding{"credentials": {skipped, "", ""}, "protocol": {skipped, "", ""},
		"limits": {skipped, "", ""}, "clock": {skipped, "", ""}}
	with := func(m map[string]finding, more map[string]finding) map[string]finding {
		all := map[string]finding{}
		for _, part := range []map[string]finding{m, more} {
			for name, f := range part {
				all[name] = f
			}
		}
		return all
	}
	for _, tt := range []struct {
		name    string
		handler http.Handler // nil: the fake
		options map[string]string
		want    map[string]finding
	}{
		{"a platform of the plain protocol", nil, nil, map[string]finding{
			"endpoint": {ok, "answers", ""}, "credentials": {ok, "none are sent", ""},
			"protocol": {ok, "without extensions", ""}, "limits": {skipped, "2048 MB, 300 s", ""}, "clock": {ok, "", ""}}},
		{"a token that is accepted", nil, map[string]string{"token": "s3cr3t-token"},
			map[string]finding{"credentials": {ok, "a bearer token is sent, and accepted", ""}}},
		{"a token is missing", status(401, `{"error":"who are you"}`), nil, map[string]finding{
			"credentials": {failed, "no credential was sent", "export FAAS_CUSTOM_TOKEN=TOKEN"}, "protocol": {skipped, "", ""},
			"limits": {skipped, "", ""}}},
		{"a token is wrong, and repeated by the platform", status(403, `{"error":"s3cr3t-token is expired"}`),
			map[string]string{"token": "s3cr3t-token"}, map[string]finding{
				"credentials": {failed, "a bearer token was sent", "export FAAS_CUSTOM_TOKEN=TOKEN"}}},
		{"a header is wrong", status(401, ""), map[string]string{"header": "X-Api-Key: s3cr3t-token"},
			map[string]finding{"credentials": {failed, "a header was sent", "header to NAME:VALUE"}}},
		{"another web server", status(404, "<html>no such page</html>"), nil,
			map[string]finding{"protocol": {warning, "another web server", "serverless.provider.endpoint"}}},
		{"an invoke-only platform", status(405, ""), nil,
			map[string]finding{"protocol": {warning, "invoke-only", "mode to invoke-only"}}},
		{"an invoke-only platform, as configured", status(405, ""), map[string]string{"mode": "invoke-only"},
			map[string]finding{"protocol": {ok, "/job/0", ""}}},
		{"a platform that fails", status(500, "oops"), nil,
			map[string]finding{"protocol": {failed, "status 500", "mend the platform"}}},
		{"a platform that has had enough", status(429, ""), nil,
			map[string]finding{"protocol": {failed, "429", "try again later"}}},
		{"it is elsewhere", http.RedirectHandler("https://elsewhere.example/", http.StatusFound), nil, map[string]finding{
			"endpoint": {failed, "elsewhere.example", "serverless.provider.endpoint"}, "credentials": {ok, "", ""},
			"protocol": {skipped, "", ""}, "limits": {skipped, "", ""}}},
		{"the clock is behind", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(2*time.Minute).UTC().Format(http.TimeFormat))
			status(404, `{"error":"no such function"}`)(w, r)
		}), nil, map[string]finding{"clock": {warning, "behind", ""}}},
		{"small limits", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/functions") {
				status(200, `{"functions":[],"features":["list"],`+
					`"limits":{"max_memory_mb":512,"max_timeout_secs":60,"max_payload_mb":1}}`)(w, r)
				return
			}
			status(404, `{"error":"no such function"}`)(w, r)
		}), nil, map[string]finding{"protocol": {ok, "extensions list", ""},
			"limits": {warning, "512 MB, 60 s",
				"set serverless.default_memory_mb to 512 and serverless.default_timeout_secs to 60"}}},
		{"OAuth 2.0 is refused", status(400, `{"error":"invalid_client"}`),
			map[string]string{"oauth2_client_id": "me", "oauth2_client_secret": "s3cr3t-token",
				"oauth2_token_url": "SELF/token"}, with(unreached, map[string]finding{
				"endpoint": {skipped, "no token", ""}, "credentials": {failed, "status 400", custom.ClientSecretEnv}})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var handler http.Handler = newFake(t)
			if tt.handler != nil {
				handler = tt.handler
			}
			server := httptest.NewServer(handler)
			defer server.Close()
			options := map[string]string{}
			for name, value := range tt.options {
				options[name] = strings.Replace(value, "SELF", server.URL, 1)
			}
			checks := open(t, faas.Config{Endpoint: server.URL, Options: options}).Diagnose(t.Context())
			wantFindings(t, checks, tt.want)
			if strings.Contains(fmt.Sprintf("%+v", checks), "s3cr3t") {
				t.Errorf("a credential is in %+v", checks)
			}
		})
	}
	secure := httptest.NewUnstartedServer(newFake(t))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it is told that its certificate is not trusted
	secure.StartTLS()
	defer secure.Close()
	demanding := httptest.NewUnstartedServer(newFake(t))
	demanding.Config.ErrorLog = log.New(io.Discard, "", 0)
	demanding.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	demanding.StartTLS()
	defer demanding.Close()
	for _, tt := range []struct {
		name   string
		cfg    faas.Config
		remedy string
	}{
		{"nobody is there", faas.Config{Endpoint: "http://127.0.0.1:1"}, "start the platform at http://127.0.0.1:1"},
		{"a certificate that nobody knows", faas.Config{Endpoint: secure.URL}, "ca_file to FILE"},
		{"a client certificate is asked for", faas.Config{Endpoint: demanding.URL, HTTPClient: demanding.Client()},
			"client_cert to FILE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantFindings(t, open(t, tt.cfg).Diagnose(t.Context()),
				with(unreached, map[string]finding{"endpoint": {failed, "", tt.remedy}}))
		})
	}
}

func TestTheEmbeddedPlatformDeclaresItsLimits(t *testing.T) {
	t.Setenv(custom.TokenEnv, "")
	p, err := platform.New(platform.WithLimits(platform.Limits{MaxTimeoutSecs: 100}))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	server := httptest.NewServer(p)
	defer server.Close()
	wantFindings(t, open(t, faas.Config{Endpoint: server.URL}).Diagnose(t.Context()), map[string]finding{
		"protocol": {faas.CheckOK, "replace", ""},
		"limits":   {faas.CheckWarning, "10240 MB, 100 s", "serverless.default_timeout_secs to 100"},
	})
}

func TestADiagnosisSendsNothingThatChangesAnything(t *testing.T) {
	p := newFake(t)
	open(t, faas.Config{Endpoint: p.start(t).URL}).Diagnose(t.Context())
	for _, line := range p.requests() {
		if !strings.HasPrefix(line, "GET ") {
			t.Errorf("it sent %s", line)
		}
	}
}
