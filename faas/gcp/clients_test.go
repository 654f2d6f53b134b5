//go:build !faas_only || faas_gcp

package gcp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/googleapis/gax-go/v2/apierror"
	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
	"github.com/tangle-network/blueprint-serverless/internal/doctest"
)

// transportFunc is a transport.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// through returns a client that marks its requests. It sends those for Google's token endpoint,
// whose address user credentials cannot change, to the fake.
func through(t testing.TB, s *gcptest.Server) *http.Client {
	base := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(base.CloseIdleConnections)
	return &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.Header.Set("X-Via", "given")
		if r.URL.Host == "oauth2.googleapis.com" {
			return httptest.NewRecorder().Result(), errors.New("nobody may call Google")
		}
		return base.RoundTrip(r)
	})}
}

// everything deploys, changes, looks, calls, reads logs, diagnoses and removes.
func everything(t testing.TB, e *gcp.Executor) {
	t.Helper()
	ctx := context1m(t)
	u := units(t, e, function(0))[0]
	converge(t, e, u)
	prior, err := e.Observe(ctx, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Invoke(ctx, 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	u.Functions[0].TimeoutSecs = 90
	converge(t, e, u)
	if err := e.Restore(ctx, prior); err != nil {
		t.Fatal(err)
	}
	if _, err := e.List(ctx); err != nil {
		t.Fatal(err)
	}
	for _, err := range e.Logs(ctx, faas.LogQuery{JobIDs: []uint32{0}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, check := range e.Diagnose(ctx) {
		if check.Status == faas.CheckFailed {
			t.Errorf("check %s: %s", check.Name, check.Detail)
		}
	}
	if err := e.Remove(ctx, u.ID); err != nil {
		t.Fatal(err)
	}
}

// everywhere sends the calls of every API to the fake.
func everywhere(s *gcptest.Server, service string, options ...string) faas.Config {
	for _, api := range []string{"artifacts", "logging", "service_usage", "build", "iam_credentials", "resource_manager"} {
		options = append(options, api+"_endpoint="+s.URL)
	}
	return config(s, service, options...)
}

func TestEveryCallGoesOverTheGivenClient(t *testing.T) {
	runsHere(t)
	for name, options := range map[string][]string{
		"functions":            {"invokers=user:a@example.com"},
		"cloud run":            {"mode=cloud-run", "bucket=test-bucket"},
		"impersonation":        {"impersonate_service_account=x@p.iam.gserviceaccount.com"},
		"removal of artifacts": {"remove_artifacts=true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gcptest.Start(t, builder)
			s.RequireIDToken = true
			var mu sync.Mutex
			var strays []string
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if r.Header.Get("X-Via") != "given" {
					strays = append(strays, r.Method+" "+r.URL.Path)
				}
				return false
			}
			cfg := everywhere(s, "given", append(options, "disable_credentials=false", "credentials_file="+keyFile(t, s))...)
			cfg.HTTPClient = through(t, s)
			everything(t, open(t, cfg))
			if len(strays) > 0 {
				t.Errorf("calls over another client: %q", strays)
			}
		})
	}
}

func TestTheQuotaProjectIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		env, file map[string]string
		opts      []gcp.Option
		want      string
	}{
		"the credentials'": {file: map[string]string{"quota_project_id": "of-the-file"}, want: "of-the-file"},
		"the environment's": {env: map[string]string{"GOOGLE_CLOUD_QUOTA_PROJECT": "of-env"},
			file: map[string]string{"quota_project_id": "of-the-file"}, want: "of-env"},
		"none": {file: map[string]string{}},
		"of a token source": {env: map[string]string{"GOOGLE_CLOUD_QUOTA_PROJECT": "of-env"},
			opts: []gcp.Option{gcp.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t"}))}, want: "of-env"},
		"of the client options": {opts: []gcp.Option{
			gcp.WithClientOptions(option.WithQuotaProject("of-options"),
				option.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t"})))}, want: "of-options"},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			cfg := faas.Config{Service: "quota", ProjectID: "test-project", Options: map[string]string{}}
			if test.file != nil {
				file := maps.Clone(test.file)
				maps.Copy(file, map[string]string{"type": "authorized_user", "client_id": "x", "client_secret": "y",
					"refresh_token": "z"})
				cfg.Options["credentials_file"] = writeJSON(t, file)
			}
			var got []string
			cfg.HTTPClient = &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
				body := `{"access_token":"t","expires_in":3600,"token_type":"Bearer"}`
				if r.URL.Host == "cloudfunctions.googleapis.com" {
					got = append(got, r.Header.Get("X-Goog-User-Project"))
					body = `{}`
				}
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)),
					Request: r}, nil
			})}
			if _, err := open(t, cfg, test.opts...).List(context1m(t)); err != nil {
				t.Fatal(err)
			}
			if want := []string{test.want}; !slices.Equal(got, want) {
				t.Errorf("the calls name %q, want %q", got, want)
			}
		})
	}
}

func TestClientOptionsCount(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.RequireIDToken = true
	var mu sync.Mutex
	tokens := map[string]bool{}
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v2/") {
			mu.Lock()
			defer mu.Unlock()
			tokens[r.Header.Get("Authorization")] = true
		}
		return false
	}
	own := gcp.WithIDTokenSource(func(_ context.Context, audience string) (*oauth2.Token, error) {
		return &oauth2.Token{AccessToken: gcptest.IDToken(audience)}, nil
	})
	key := keyFile(t, s)
	for name, test := range map[string]struct {
		opts []option.ClientOption
		more []gcp.Option
		want string
	}{
		"a client with a token of its own": {opts: []option.ClientOption{
			option.WithHTTPClient(&http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
				r = r.Clone(r.Context())
				r.Header.Set("Authorization", "Bearer of-the-client")
				return invocations.RoundTrip(r)
			})})}, more: []gcp.Option{own}, want: "Bearer of-the-client"},
		"a key": {opts: []option.ClientOption{option.WithAuthCredentialsFile(option.ServiceAccount, key)},
			want: "Bearer access-token-of-the-test"},
		"a token source": {opts: []option.ClientOption{
			option.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "static"}))}, more: []gcp.Option{own},
			want: "Bearer static"},
		"no authentication": {opts: []option.ClientOption{option.WithoutAuthentication()}, more: []gcp.Option{own}, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			clear(tokens)
			// The endpoint of the client options counts, because no other option sets one.
			cfg := faas.Config{Provider: faas.GCPFunctions, Service: "options", ProjectID: "test-project"}
			// Options that are nil are ignored.
			clients := gcp.WithClientOptions(append(test.opts, nil, option.WithEndpoint(s.URL))...)
			e := open(t, cfg, append(test.more, nil, clients)...)
			everything(t, e)
			if got := slices.Collect(maps.Keys(tokens)); !slices.Equal(got, []string{test.want}) {
				t.Errorf("the API sees the credentials %q, want %q alone", got, test.want)
			}
		})
	}
	cfg := faas.Config{Provider: faas.GCPFunctions, Service: "options", ProjectID: "test-project"}
	_, err := gcp.New(t.Context(), cfg, gcp.WithClientOptions(option.WithoutAuthentication(),
		option.WithAPIKey("the-secret-value")))
	wantError(t, err, faas.ErrInvalidArgument, "client options")
}

// Google sends enumerations as numbers to its own client. Proxies and emulators may send names.
func TestEnumerationsAreReadAsNamesToo(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.EnumNames = true
	everything(t, open(t, everywhere(s, "names")))
}

// Restore also restores fields that Google has added since its client was generated.
func TestWhatTheClientDoesNotKnowIsPutBack(t *testing.T) {
	runsHere(t)
	for mode, test := range map[string]struct {
		options      []string
		kind, member string
	}{
		"functions": {nil, "functions", "serviceConfig.directVpcEgress"},
		"cloud-run": {[]string{"mode=cloud-run", "bucket=test-bucket"}, "services", "template.ofTomorrow"},
	} {
		for _, gone := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, gone: %v", mode, gone), func(t *testing.T) {
				t.Parallel()
				s := gcptest.Start(t, builder)
				e := open(t, config(s, "unknown", test.options...))
				u := units(t, e, function(0))[0]
				converge(t, e, u)
				name := "projects/test-project/locations/us-central1/" + test.kind + "/" + u.ID
				s.SetMember(name, test.member, "A_VALUE")
				prior, err := e.Observe(context1m(t), u.ID)
				if err != nil {
					t.Fatal(err)
				}
				if gone {
					s.Forget(name)
				} else {
					s.SetMember(name, test.member, nil)
				}
				if err := e.Restore(context1m(t), prior); err != nil {
					t.Fatal(err)
				}
				if got := s.Member(name, test.member); got != "A_VALUE" {
					t.Errorf("%s is %v", test.member, got)
				}
			})
		}
	}
}

// An operation ends even if its error has a detail of a type that the client does not know, and the
// other details count.
func TestUnknownDetailsHideNothing(t *testing.T) {
	runsHere(t)
	details := []any{
		map[string]any{"@type": "type.googleapis.com/google.cloud.tomorrow.v1.Thing", "thing": "x"},
		detail("PreconditionFailure", "violations",
			[]any{map[string]string{"type": "constraints/x", "subject": "projects/1", "description": "is not allowed"}}),
		detail("BadRequest", "fieldViolations", "not a list"),
	}
	for name, break_ := range map[string]func(*gcptest.Server){
		"an operation": func(s *gcptest.Server) {
			s.Build = func(string, string) *gcptest.Status {
				return &gcptest.Status{Code: 9, Message: "see the violations", Details: details}
			}
		},
		"an answer": func(s *gcptest.Server) {
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Get("functionId") == "" {
					return false
				}
				resp := answered(400, "FAILED_PRECONDITION", "see the violations", details...)
				w.WriteHeader(resp.StatusCode)
				_, _ = io.Copy(w, resp.Body)
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			break_(s)
			e := open(t, config(s, "details"))
			_, err := e.Converge(context1m(t), units(t, e, function(0))[0], nil, nil)
			wantError(t, err, faas.ErrPermissionDenied, "see the violations", "constraints/x", "is not allowed")
			if !errors.As(err, new(*apierror.APIError)) {
				t.Errorf("Google's error is not reachable: %v", err)
			}
			if name == "an answer" && !errors.As(err, new(*googleapi.Error)) {
				t.Errorf("Google's answer is not reachable: %v", err)
			}
		})
	}
}

// A list that lacks a place does not show what exists.
func TestAListThatLacksAPlaceIsNone(t *testing.T) {
	s := gcptest.Start(t, builder)
	s.Unreachable = []string{"us-central1"}
	_, err := open(t, config(s, "partial")).List(context1m(t))
	wantError(t, err, faas.ErrUnavailable, "us-central1")
}

// The guide lists the required permissions. They are exactly those that the calls use.
func TestTheGuideNamesThePermissions(t *testing.T) {
	runsHere(t)
	guide := map[string][]string{}
	for line := range strings.Lines(doctest.Read(t, "docs/google-cloud.md").Text) {
		cells := strings.Split(line, "|")
		if len(cells) == 4 && strings.Contains(cells[2], ".") && !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			var all []string
			for one := range strings.SplitSeq(cells[2], ",") {
				all = append(all, strings.Trim(one, " `"))
			}
			slices.Sort(all)
			guide[strings.TrimSpace(cells[1])] = all
		}
	}
	deploy := func(change bool) func(t *testing.T, e *gcp.Executor) {
		return func(t *testing.T, e *gcp.Executor) {
			ctx := context1m(t)
			u := units(t, e, function(0))[0]
			converge(t, e, u)
			if !change {
				return
			}
			prior, err := e.Observe(ctx, u.ID)
			if err != nil {
				t.Fatal(err)
			}
			u.Functions[0].TimeoutSecs = 90
			converge(t, e, u)
			if err := errors.Join(e.Restore(ctx, prior), e.Remove(ctx, u.ID)); err != nil {
				t.Fatal(err)
			}
			if _, err := e.List(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := func(more func(*testing.T, *gcp.Executor)) func(t *testing.T, e *gcp.Executor) {
		return func(t *testing.T, e *gcp.Executor) { deploy(false)(t, e); more(t, e) }
	}
	const functions, run = "deploying", "deploying, mode cloud-run"
	for row, test := range map[string]struct {
		options []string
		beside  string // whose permissions are needed, too
		do      func(*testing.T, *gcp.Executor)
	}{
		functions:                     {do: deploy(true)},
		run:                           {options: []string{"mode=cloud-run", "bucket=test-bucket"}, do: deploy(true)},
		"options public and invokers": {options: []string{"public=true"}, beside: functions, do: deploy(true)},
		"option remove_artifacts":     {options: []string{"remove_artifacts=true"}, beside: functions, do: deploy(true)},
		"option impersonate_service_account, on the account": {
			options: []string{"impersonate_service_account=x@p.iam.gserviceaccount.com", "disable_credentials=false"},
			beside:  functions,
			do: all(func(t *testing.T, e *gcp.Executor) {
				deploy(true)(t, e)
				converge(t, e, units(t, e, function(0))[0])
				if _, err := e.Invoke(context1m(t), 0, nil); err != nil {
					t.Fatal(err)
				}
			}),
		},
		"invoking": {beside: functions, do: all(func(t *testing.T, e *gcp.Executor) {
			if _, err := e.Invoke(context1m(t), 0, nil); err != nil {
				t.Fatal(err)
			}
		})},
		"reading logs": {beside: functions, do: all(func(t *testing.T, e *gcp.Executor) {
			for _, err := range e.Logs(context1m(t), faas.LogQuery{JobIDs: []uint32{0}}) {
				if err != nil {
					t.Fatal(err)
				}
			}
		})},
		"diagnosing": {beside: functions, do: func(t *testing.T, e *gcp.Executor) { e.Diagnose(context1m(t)) }},
	} {
		t.Run(row, func(t *testing.T) {
			t.Parallel()
			s := gcptest.Start(t, builder)
			test.do(t, open(t, everywhere(s, "permissions", append(test.options, "credentials_file="+keyFile(t, s))...)))
			taken := slices.DeleteFunc(s.Permissions(), func(one string) bool {
				return slices.Contains(guide[test.beside], one) || row != "invoking" && one == "run.routes.invoke"
			})
			if diff := cmp.Diff(guide[row], taken); diff != "" {
				t.Errorf("docs/google-cloud.md, %s (-says +is):\n%s", row, diff)
			}
		})
	}
	for _, one := range guide[functions] {
		t.Run("without "+one, func(t *testing.T) {
			t.Parallel()
			s := gcptest.Start(t, builder)
			e := open(t, everywhere(s, "without"))
			s.Withheld = []string{one}
			u := units(t, e, function(0))[0]
			_, err := e.Converge(context1m(t), u, nil, nil)
			if err == nil { // it is not needed for that
				u.Functions[0].TimeoutSecs = 90
				_, err = e.Converge(context1m(t), u, nil, nil)
			}
			if err == nil {
				_, err = e.List(context1m(t))
			}
			if err == nil {
				err = e.Remove(context1m(t), u.ID)
			}
			if one == "cloudfunctions.runtimes.list" && err == nil {
				return // a known runtime is assumed
			}
			wantError(t, err, faas.ErrPermissionDenied, one, "--role=roles/")
		})
	}
}

// A policy is written back unchanged except for who may invoke, with its conditions and any unknown
// members.
func TestOthersBindingsStayAsTheyWere(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "bindings"))
	u := units(t, e, function(0))[0]
	converge(t, e, u)
	service := "projects/test-project/locations/us-central1/services/" + u.ID
	bound := map[string]any{
		"role": "roles/run.invoker", "members": []any{"user:a@example.com"}, "ofTomorrow": "x",
		"condition": map[string]any{"title": "weekdays", "expression": "true", "location": "here"},
	}
	s.SetBinding(service, bound)
	for _, public := range []string{"true", "false"} {
		converge(t, open(t, config(s, "bindings", "public="+public)), u)
		p := s.Policy(service)
		all, _ := p["bindings"].([]any)
		if diff := cmp.Diff(bound, all[0]); diff != "" || p["auditConfigs"] == nil {
			t.Errorf("public=%s: audit configurations %v, the binding (-before +after):\n%s", public, p["auditConfigs"], diff)
		}
		if open := slices.Contains(s.Allowed(service, "roles/run.invoker"), "allUsers"); open != (public == "true") {
			t.Errorf("public=%s: everybody may invoke: %v", public, open)
		}
	}
}
