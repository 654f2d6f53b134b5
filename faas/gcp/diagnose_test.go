//go:build !faas_only || faas_gcp

package gcp_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

// failingToken is a token source that always fails.
type failingToken struct{ err error }

func (f failingToken) Token() (*oauth2.Token, error) { return nil, f.err }

func TestDiagnoseTellsWhatIsWrongWithAProject(t *testing.T) {
	const (
		ok      = faas.CheckOK
		warning = faas.CheckWarning
		failed  = faas.CheckFailed
		skipped = faas.CheckSkipped
	)
	type finding struct {
		status         faas.CheckStatus
		detail, remedy string
	}
	names := []string{"credentials", "clock", "project", "apis", "permissions", "build", "region", "bucket", "quota"}
	s := gcptest.Start(t, builder)
	for _, api := range []string{"SERVICEUSAGE", "CLOUDRESOURCEMANAGER", "CLOUDBUILD"} {
		t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_"+api, s.URL)
	}
	write := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = w.Write([]byte(text)) }
	}
	refuse := func(status int, code, message string, info ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { gcptest.Fail(w, status, code, message, info...) }
	}
	noToken := map[string]finding{"credentials": {failed, "", "gcloud auth application-default login"}}
	for _, name := range names[1:] {
		noToken[name] = finding{skipped, "no token", ""}
	}
	for _, tt := range []struct {
		name    string
		suffix  string // of the path that is answered in another way
		answer  func(http.ResponseWriter)
		options []string
		more    []gcp.Option
		want    map[string]finding
	}{
		{"a healthy project", "-", nil, nil, nil, map[string]finding{
			"credentials": {ok, "none are sent", ""}, "project": {ok, "test-project, number 123456789", ""},
			"clock": {ok, "Google Cloud", ""}, "apis": {ok, "enabled", ""}, "permissions": {ok, "held", ""},
			"build": {ok, "may build", ""}, "region": {ok, "us-central1", ""}, "bucket": {skipped, "", ""},
			"quota": {ok, "0 of 1000", ""}}},
		{"no credentials", "-", nil, nil, []gcp.Option{
			gcp.WithTokenSource(failingToken{errors.New("could not find default credentials")})}, noToken},
		{"a clock that is behind", "/projects/test-project", func(w http.ResponseWriter) {
			w.Header().Set("Date", time.Now().Add(2*time.Minute).UTC().Format(http.TimeFormat))
			write(`{"projectNumber":"1","lifecycleState":"ACTIVE"}`)(w)
		}, nil, nil, map[string]finding{"clock": {warning, "behind", ""}}},
		{"a project that is to be deleted", "/projects/test-project",
			write(`{"projectNumber":"1","lifecycleState":"DELETE_REQUESTED"}`), nil, nil, map[string]finding{
				"project": {failed, "DELETE_REQUESTED", "gcloud projects undelete test-project"}}},
		{"a project that may not be seen", "/projects/test-project",
			refuse(403, "PERMISSION_DENIED", "The caller does not have permission"), nil, nil, map[string]finding{
				"project": {warning, "resourcemanager.projects.get", "--role=roles/browser"}}},
		{"a project that does not exist", "/projects/test-project", refuse(404, "NOT_FOUND", "Project not found"), nil, nil,
			map[string]finding{"project": {failed, "not found", "set serverless.provider.project_id to PROJECT"}}},
		{"an API is not enabled", "services:batchGet",
			write(`{"services":[{"name":"projects/1/services/run.googleapis.com","state":"ENABLED"}]}`), nil, nil,
			map[string]finding{
				"apis": {failed, "API cloudbuild.googleapis.com is not enabled",
					"gcloud services enable cloudbuild.googleapis.com --project=test-project"}}},
		{"APIs may not be seen", "services:batchGet", refuse(403, "PERMISSION_DENIED", "no"), nil, nil,
			map[string]finding{"apis": {warning, "serviceusage.services.get", "--role=roles/serviceusage.serviceUsageViewer"}}},
		{"the API that tells is not enabled", "services:batchGet",
			refuse(403, "PERMISSION_DENIED", "it is disabled", "SERVICE_DISABLED", "service", "serviceusage.googleapis.com"),
			nil, nil, map[string]finding{
				"apis": {warning, "it is disabled", "gcloud services enable serviceusage.googleapis.com"}}},
		{"a permission is missing", ":testIamPermissions", write(`{}`), nil, nil, map[string]finding{
			"permissions": {failed, "cloudfunctions.functions.create", "--role=roles/cloudfunctions.developer"}}},
		{"Cloud Build may not build", ":getIamPolicy", write(`{"bindings":[]}`), nil, nil,
			map[string]finding{"build": {failed, "lacks roles/cloudbuild.builds.builder",
				"gcloud projects add-iam-policy-binding test-project"}}},
		{"a region that is none", "/runtimes", refuse(
			403, "PERMISSION_DENIED", "Permission denied on 'locations/us-central1' (or it may not exist)."), nil, nil,
			map[string]finding{
				"region": {failed, "region us-central1 does not exist", "export GCP_REGION=REGION"}}},
		{"no such bucket", "/iam/testPermissions", refuse(404, "NOT_FOUND", "The specified bucket does not exist."),
			[]string{"mode=cloud-run", "bucket=my-bucket"}, nil, map[string]finding{
				"build": {skipped, "", ""}, "bucket": {failed, "does not exist", "gcloud storage buckets create gs://my-bucket"}}},
		{"a bucket that may not be written", "/iam/testPermissions", write(`{"permissions":["storage.objects.get"]}`),
			[]string{"mode=cloud-run", "bucket=my-bucket"}, nil, map[string]finding{
				"build": {skipped, "", ""}, "bucket": {failed, "storage.objects.create", "--role=roles/storage.objectAdmin"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, ":testIamPermissions") &&
					!strings.HasSuffix(r.URL.Path, ":getIamPolicy") {
					t.Errorf("it sent %s %s", r.Method, r.URL.Path)
				}
				if !strings.HasSuffix(r.URL.Path, tt.suffix) {
					return false
				}
				tt.answer(w)
				return true
			}
			var got []string
			for _, c := range open(t, config(s, "svc", tt.options...), tt.more...).Diagnose(context1m(t)) {
				got = append(got, c.Name)
				f, named := tt.want[c.Name]
				if !named {
					if c.Status == failed || c.Status == warning {
						t.Errorf("%s is %s: %s", c.Name, c.Status, c.Detail)
					}
					continue
				}
				if c.Status != f.status || !strings.Contains(strings.ToLower(c.Detail), strings.ToLower(f.detail)) ||
					!strings.Contains(c.Remedy, f.remedy) || c.Status == failed && c.Err == nil {
					t.Errorf("%s is %q: %s\nremedy: %s\nwant %q with %q and the remedy %q", c.Name, c.Status, c.Detail, c.Remedy,
						f.status, f.detail, f.remedy)
				}
			}
			if diff := cmp.Diff(names, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A key is refused if its assertion was dated by a wrong clock. The refusal tells the time.
func TestDiagnoseFindsAWrongClockInARefusedToken(t *testing.T) {
	s := gcptest.Start(t, builder)
	for _, ahead := range []time.Duration{0, time.Hour} {
		s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(-ahead).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"invalid_grant",` +
				`"error_description":"Invalid JWT: Token must be a short-lived token (60 minutes) ` +
				`and in a reasonable timeframe."}`))
			return true
		}
		e := open(t, config(s, "clock", "disable_credentials=false", "credentials_file="+keyFile(t, s)))
		checks := map[string]faas.Check{}
		for _, c := range e.Diagnose(context1m(t)) {
			checks[c.Name] = c
		}
		if c := checks["credentials"]; c.Status != faas.CheckFailed || !strings.Contains(c.Detail, "reasonable timeframe") {
			t.Errorf("credentials: %+v", c)
		}
		want := faas.CheckOK
		if ahead > 0 {
			want = faas.CheckFailed
		}
		if c := checks["clock"]; c.Status != want {
			t.Errorf("the clock is %v ahead: %+v", ahead, c)
		}
	}
}
