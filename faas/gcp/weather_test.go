//go:build !faas_only || faas_gcp

package gcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/api/googleapi"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

// direct is a transport that calls the fake without a network, so that a test can have a clock of
// its own. The script comes first: it answers a request, fails it, or returns neither and leaves it
// to the fake.
type direct struct {
	s      *gcptest.Server
	script func(*http.Request) (*http.Response, error)
}

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if d.script != nil {
		if resp, err := d.script(r); resp != nil || err != nil {
			return resp, err
		}
	}
	if strings.HasPrefix(r.URL.Path, "/fn/") { // a function is a process, which no clock but the real one moves
		return invocations.RoundTrip(r)
	}
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	d.s.Config.Handler.ServeHTTP(rec, in)
	return rec.Result(), nil
}

// invocations is a transport that keeps no connection.
var invocations = &http.Transport{DisableKeepAlives: true}

// answered returns an answer from Google.
func answered(status int, code, message string, details ...any) *http.Response {
	text, err := json.Marshal(map[string]any{"error": map[string]any{
		"code": status, "status": code, "message": message, "details": details}})
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(text)))}
}

// detail returns an item of details.
func detail(kind string, members ...any) map[string]any {
	d := map[string]any{"@type": "type.googleapis.com/google.rpc." + kind}
	for i := 0; i+1 < len(members); i += 2 {
		d[members[i].(string)] = members[i+1]
	}
	return d
}

// weather makes the first n requests that match go wrong.
type weather struct {
	match string
	n     int
	make  func() (*http.Response, error)

	mu   sync.Mutex
	seen int
}

func (w *weather) script(r *http.Request) (*http.Response, error) {
	if w == nil || !strings.Contains(r.Method+" "+r.URL.String(), w.match) {
		return nil, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen++; w.seen > w.n {
		return nil, nil
	}
	return w.make()
}

func (w *weather) strikes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(w.seen, w.n)
}

// under deploys a function of the service under a bubble's clock.
func under(t *testing.T, s *gcptest.Server, script func(*http.Request) (*http.Response, error),
	test func(t *testing.T, e *gcp.Executor, u faas.Unit)) {
	t.Helper()
	jobBinary(t)
	synctest.Test(t, func(t *testing.T) {
		cfg := config(s, "weather")
		cfg.HTTPClient = &http.Client{Transport: direct{s, script}}
		e := open(t, cfg)
		defer s.Rest()
		test(t, e, units(t, e, function(0))[0])
	})
}

const (
	generateURL  = "generateUploadUrl"
	readFunction = "/functions/weather-job0"
)

func TestOneFailedLookEndsNoDeployment(t *testing.T) {
	runsHere(t)
	status := func(code int, name string) func() (*http.Response, error) {
		return func() (*http.Response, error) { return answered(code, name, "for the moment"), nil }
	}
	fails := func(err error) func() (*http.Response, error) {
		return func() (*http.Response, error) { return nil, err }
	}
	timeout := &net.OpError{Op: "read", Net: "tcp", Err: context.DeadlineExceeded} // as package net's own passes for it
	for name, w := range map[string]*weather{
		"an operation: TLS handshake timeout": {match: "/operations/", n: 9, make: fails(timeout)},
		"an operation: connection reset": {match: "/operations/", n: 9,
			make: fails(errors.New("connection reset by peer"))},
		"an operation: 500":      {match: "/operations/", n: 20, make: status(500, "INTERNAL")},
		"an operation: 504":      {match: "/operations/", n: 9, make: status(504, "DEADLINE_EXCEEDED")},
		"an operation: 408":      {match: "/operations/", n: 9, make: status(408, "")},
		"an operation: 429":      {match: "/operations/", n: 9, make: status(429, "RESOURCE_EXHAUSTED")},
		"an operation: 401":      {match: "/operations/", n: 1, make: status(401, "UNAUTHENTICATED")},
		"an operation: 403":      {match: "/operations/", n: 1, make: status(403, "PERMISSION_DENIED")},
		"an operation: 404":      {match: "/operations/", n: 2, make: status(404, "NOT_FOUND")},
		"an upload URL: timeout": {match: generateURL, n: 3, make: fails(timeout)},
		"an upload URL: 500":     {match: generateURL, n: 3, make: status(500, "INTERNAL")},
		"an upload URL: 408":     {match: generateURL, n: 3, make: status(408, "")},
		"the upload: timeout":    {match: "/signed/", n: 2, make: fails(timeout)},
		"the function: timeout":  {match: readFunction, n: 3, make: fails(timeout)},
		"the function: 500":      {match: readFunction, n: 3, make: status(500, "INTERNAL")},
		"the creation: 503":      {match: "functionId=", n: 2, make: status(503, "UNAVAILABLE")},
		"the creation: timeout":  {match: "functionId=", n: 1, make: fails(timeout)},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			under(t, s, w.script, func(t *testing.T, e *gcp.Executor, u faas.Unit) {
				if state, err := e.Converge(t.Context(), u, nil, nil); err != nil || !state.Current(u) {
					t.Fatalf("state %+v, error %v", state, err)
				}
				if w.strikes() != w.n {
					t.Errorf("%d of %d bad answers were seen", w.strikes(), w.n)
				}
				// The requests for an upload URL count too.
				if n := len(s.Calls("POST " + "/v2/projects/test-project/locations/us-central1/functions")); n != 2 {
					t.Errorf("it was created %d times: %v", n-1, s.Calls())
				}
			})
		})
	}
}

func TestAWaitThatEndsSaysWhy(t *testing.T) {
	runsHere(t)
	ended := errors.New("the operator lost patience")
	for name, test := range map[string]struct {
		match  string
		within time.Duration // of the caller; 0 for ever
		code   faas.Code
		cause  error
		words  []string
	}{
		"the caller's deadline passes": {match: "/operations/", within: time.Minute, code: faas.ErrTimeout, cause: ended,
			words: []string{"the operator lost patience", "backend is down"}},
		"nothing but errors": {match: "GET ", code: faas.ErrUnavailable, words: []string{"backend is down"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			w := &weather{match: test.match, n: 1 << 30,
				make: func() (*http.Response, error) { return answered(503, "UNAVAILABLE", "backend is down"), nil }}
			under(t, s, w.script, func(t *testing.T, e *gcp.Executor, u faas.Unit) {
				ctx := t.Context()
				if test.within > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeoutCause(ctx, test.within, ended)
					defer cancel()
				}
				start := time.Now()
				_, err := e.Converge(ctx, u, nil, nil)
				wantError(t, err, test.code, test.words...)
				if test.cause != nil && !errors.Is(err, test.cause) {
					t.Errorf("the caller's reason is not reachable: %v", err)
				}
				if api := new(googleapi.Error); !errors.As(err, &api) || api.Code != http.StatusServiceUnavailable {
					t.Errorf("the last refusal is not reachable: %v", err)
				}
				if took := time.Since(start); took > 20*time.Minute {
					t.Errorf("it took %s of the test's clock", took)
				}
			})
		})
	}
}

// What Google creates by itself in a new project is waited for. What the project was not granted is
// not.
func TestANewProjectIsWaitedFor(t *testing.T) {
	runsHere(t)
	const (
		metadata = "Unable to retrieve the repository metadata for " +
			"projects/test-project/locations/us-central1/repositories/gcf-artifacts. Ensure that the Cloud Functions " +
			"service account has " +
			"'artifactregistry.repositories.list' and 'artifactregistry.repositories.get' permissions. You can add the " +
			"permissions by granting the role 'roles/artifactregistry.reader'."
		account  = "Service account projects/-/serviceAccounts/123456789-compute@developer.gserviceaccount.com was not found."
		disabled = "Cloud Functions API has not been used in project 123456789 before or it is disabled. If you enabled " +
			"this API recently, wait a few minutes for the action to propagate to our systems and retry."
	)
	info := detail("ErrorInfo", "reason", "SERVICE_DISABLED", "domain", "googleapis.com", "metadata",
		map[string]string{"service": "cloudfunctions.googleapis.com"})
	for name, test := range map[string]struct {
		w       *weather
		fails   int // operations that end so
		status  gcptest.Status
		enabled string
		code    faas.Code
	}{
		"the repository's metadata, at once": {
			w: &weather{match: "functionId=", n: 5, make: func() (*http.Response, error) {
				return answered(403, "PERMISSION_DENIED", metadata), nil
			}}},
		"the repository's metadata, in the operation": {fails: 3, status: gcptest.Status{Code: 7, Message: metadata}},
		"the service account": {
			w: &weather{match: "functionId=", n: 5, make: func() (*http.Response, error) {
				return answered(404, "NOT_FOUND", account), nil
			}}},
		"an API that is enabled": {
			enabled: "ENABLED", w: &weather{match: "cloudfunctions/", n: 5,
				make: func() (*http.Response, error) { return answered(403, "PERMISSION_DENIED", disabled, info), nil }}},
		"an API that is not enabled": {
			enabled: "DISABLED", code: faas.ErrPermissionDenied,
			w: &weather{match: "cloudfunctions/", n: 1 << 30,
				make: func() (*http.Response, error) { return answered(403, "PERMISSION_DENIED", disabled, info), nil }}},
		"the metadata never": {
			code: faas.ErrPermissionDenied, fails: 1 << 30, status: gcptest.Status{Code: 7, Message: metadata}},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE", s.URL+"/usage/")
			begun := 0
			s.Build = func(string, string) *gcptest.Status {
				if begun++; begun <= test.fails {
					return &test.status
				}
				return nil
			}
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/usage/") {
					fmt.Fprintf(w, `{"name":"projects/123456789/services/cloudfunctions.googleapis.com","state":%q}`, test.enabled)
					return true
				}
				return false
			}
			script := func(r *http.Request) (*http.Response, error) {
				if test.enabled != "" && strings.Contains(r.URL.Path, "/functions") {
					return test.w.script(&http.Request{Method: r.Method, URL: r.URL.JoinPath("/cloudfunctions/")})
				}
				return test.w.script(r)
			}
			under(t, s, script, func(t *testing.T, e *gcp.Executor, u faas.Unit) {
				start := time.Now()
				_, err := e.Observe(t.Context(), u.ID)
				if err == nil || faas.CodeOf(err) == faas.ErrNotFound {
					_, err = e.Converge(t.Context(), u, nil, nil)
				}
				took := time.Since(start)
				switch {
				case test.code == "" && err != nil:
					t.Errorf("after %s: %v", took, err)
				case test.code != "":
					wantError(t, err, test.code)
				}
				if test.enabled == "DISABLED" && took > 0 {
					t.Errorf("what was not enabled was waited for %s", took)
				}
				if took > 16*time.Minute {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// A refusal that lasts costs one attempt, and the error repeats Google's words.
func TestARefusalThatLastsIsNotRepeated(t *testing.T) {
	runsHere(t)
	const quota = "Quota exceeded for total allowable CPU per project per region."
	for name, test := range map[string]struct {
		answer *http.Response
		status *gcptest.Status
		code   faas.Code
		words  []string
		not    []string
	}{
		"an organization's policy": {
			answer: answered(400, "FAILED_PRECONDITION", "Please refer to the violations.",
				detail("PreconditionFailure", "violations", []any{
					map[string]string{"type": "constraints/gcp.resourceLocations", "subject": "orgpolicy:projects/1",
						"description": "us-central1 is not allowed"},
				}), detail("Help", "links", []any{map[string]string{
					"description": "about locations", "url": "https://cloud.google.com/locations"}})),
			code: faas.ErrPermissionDenied,
			words: []string{"constraints/gcp.resourceLocations", "us-central1 is not allowed",
				"https://cloud.google.com/locations"},
		},
		"fields": {
			answer: answered(400, "INVALID_ARGUMENT", "The request has errors", detail("BadRequest", "fieldViolations", []any{
				map[string]string{"field": "service_config.vpc_connector",
					"description": "the connector was not found, KEY=the-secret-value"},
			})),
			code: faas.ErrInvalidArgument, words: []string{"service_config.vpc_connector", "the connector was not found"},
		},
		"a quota of CPUs": {status: &gcptest.Status{Code: 8, Message: quota}, code: faas.ErrTooLarge, words: []string{quota}},
		"a quota of CPUs, at once": {
			answer: answered(429, "RESOURCE_EXHAUSTED", "A quota is exceeded.", detail("QuotaFailure", "violations", []any{
				map[string]string{"subject": "project:1", "description": "CpuAllocPerProjectRegion",
					"quotaMetric": "run.googleapis.com/cpu_allocation"},
			})),
			code: faas.ErrTooLarge, words: []string{"CpuAllocPerProjectRegion", "run.googleapis.com/cpu_allocation"},
		},
		"too many instances": {
			answer: answered(400, "INVALID_ARGUMENT", "Could not create Cloud Run service x. "+
				"spec.template.spec.containers.resources.limits.cpu: Invalid value specified for cpu. For the specified value, "+
				"maxScale may not exceed 10."),
			code: faas.ErrTooLarge, words: []string{"option max_instances to 10"},
		},
		"a name that is taken": {
			answer: answered(409, "", "Could not create Cloud Run service x. A Cloud Run service with this name already "+
				"exists. Please redeploy the function with a different name."),
			code: faas.ErrConflict, words: []string{"already exists"},
		},
		"an e-mail is no permission": {
			answer: answered(403, "PERMISSION_DENIED",
				"Build service account cloudfunctions.functions.create@run.jobs.iam.gserviceaccount.com is wrong for "+
					"cloudfunctions.functions.get"),
			code: faas.ErrPermissionDenied, not: []string{"--role="},
		},
		"the principal that is named": {
			answer: answered(403, "PERMISSION_DENIED",
				"service-1@gcf-admin-robot.iam.gserviceaccount.com does not have access: Permission "+
					"'artifactregistry.repositories.get' denied on resource (or it may not exist)."),
			code: faas.ErrPermissionDenied, words: []string{
				"--member=serviceAccount:service-1@gcf-admin-robot.iam.gserviceaccount.com --role=roles/artifactregistry."},
			not: []string{"MEMBER"},
		},
		"who one may not act as": {
			answer: answered(403, "PERMISSION_DENIED",
				"Caller is missing permission 'iam.serviceaccounts.actAs' on service account "+
					"projects/-/serviceAccounts/runner@p.iam.gserviceaccount.com."),
			code: faas.ErrPermissionDenied, words: []string{
				"add-iam-policy-binding runner@p.iam.gserviceaccount.com", "roles/iam.serviceAccountUser"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			created := 0
			s.Build = func(string, string) *gcptest.Status { return test.status }
			script := func(r *http.Request) (*http.Response, error) {
				if r.URL.Query().Get("functionId") == "" {
					return nil, nil
				}
				created++
				return test.answer, nil
			}
			under(t, s, script, func(t *testing.T, e *gcp.Executor, u faas.Unit) {
				_, err := e.Converge(t.Context(), u, nil, nil)
				wantError(t, err, test.code, test.words...)
				for _, word := range test.not {
					if strings.Contains(err.Error(), word) {
						t.Errorf("the error says %q: %v", word, err)
					}
				}
				if created != 1 {
					t.Errorf("%d attempts", created)
				}
			})
		})
	}
}

// A rate limit passes, but it is not waited for without end, because each attempt costs a build.
func TestARateThatEndsOperationsIsAQuotaInTheEnd(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.Build = func(string, string) *gcptest.Status {
		return &gcptest.Status{Code: 8, Message: "Quota exceeded for quota metric 'Builds' and limit 'Builds per minute'"}
	}
	under(t, s, nil, func(t *testing.T, e *gcp.Executor, u faas.Unit) {
		var codes []faas.Code
		for range 5 {
			_, err := e.Converge(t.Context(), u, nil, nil)
			codes = append(codes, faas.CodeOf(err))
			if faas.CodeOf(err) != faas.ErrThrottled {
				break
			}
		}
		if want := []faas.Code{faas.ErrThrottled, faas.ErrThrottled, faas.ErrTooLarge}; !slices.Equal(codes, want) {
			t.Errorf("codes %q, want %q", codes, want)
		}
	})
}

// A function is removed even if a read does not find it. A creation that was not answered is
// removed when it takes effect.
func TestAStaleReadLeaksNothing(t *testing.T) {
	runsHere(t)
	t.Run("a look that finds nothing", func(t *testing.T) {
		s := gcptest.Start(t, builder)
		var w *weather
		under(t, s, func(r *http.Request) (*http.Response, error) { return w.script(r) },
			func(t *testing.T, e *gcp.Executor, u faas.Unit) {
				if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
					t.Fatal(err)
				}
				w = &weather{match: "GET " + s.URL + "/v2/projects/test-project/locations/us-central1" + readFunction, n: 4,
					make: func() (*http.Response, error) { return answered(404, "NOT_FOUND", "not found"), nil }}
				if err := e.Remove(t.Context(), u.ID); err != nil {
					t.Fatal(err)
				}
				if left := s.Functions(); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			})
	})
	t.Run("a creation without an answer", func(t *testing.T) {
		s := gcptest.Start(t, builder)
		gone := errors.New("no answer")
		script := func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("functionId") == "" || r.Header.Get("X-Late") != "" {
				return nil, nil
			}
			late := r.Clone(context.Background())
			late.Header.Set("X-Late", "1")
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			late.Body = body
			time.AfterFunc(3*time.Second, func() { s.Config.Handler.ServeHTTP(httptest.NewRecorder(), late) })
			<-r.Context().Done()
			return nil, gone
		}
		under(t, s, script, func(t *testing.T, e *gcp.Executor, u faas.Unit) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			time.AfterFunc(0, func() {})
			_, err := e.Converge(ctx, u, nil, nil)
			var failed *faas.Error
			if !errors.As(err, &failed) || !failed.Unsettled || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v is not unsettled", err)
			}
			if err := e.Remove(t.Context(), u.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if left := s.Functions(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	})
	t.Run("a function that nothing was said of", func(t *testing.T) {
		s := gcptest.Start(t, builder)
		var w *weather
		under(t, s, func(r *http.Request) (*http.Response, error) { return w.script(r) },
			func(t *testing.T, e *gcp.Executor, u faas.Unit) {
				if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
					t.Fatal(err)
				}
				w = &weather{match: "GET " + s.URL + "/v2/projects/test-project/locations/us-central1" + readFunction, n: 2,
					make: func() (*http.Response, error) { return answered(404, "NOT_FOUND", "not found"), nil }}
				cfg := config(s, "weather")
				cfg.HTTPClient = &http.Client{Transport: direct{s, w.script}}
				other := open(t, cfg)
				if _, err := other.Observe(t.Context(), u.ID); faas.CodeOf(err) != faas.ErrNotFound {
					t.Fatalf("Observe: %v", err)
				}
				if state, err := other.Converge(t.Context(), u, nil, nil); err != nil || !state.Existed {
					t.Errorf("state %+v, error %v: it is not said to have existed", state, err)
				}
			})
	})
}
