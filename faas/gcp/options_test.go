//go:build !faas_only || faas_gcp

package gcp_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

func TestConfigurationsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		change func(*faas.Config)
		words  string
	}{
		{func(c *faas.Config) { c.Service = "" }, "service name is empty"},
		{func(c *faas.Config) { c.ProjectID = "" }, "project_id is missing"},
		{func(c *faas.Config) { c.ProjectID = "Bad Project" }, "project_id"},
		{func(c *faas.Config) { c.Region = "../x" }, "region"},
		{func(c *faas.Config) { c.Options = map[string]string{"mode": "x"} }, `option "mode"`},
		{func(c *faas.Config) { c.Options = map[string]string{"mode": "cloud-run"} }, "option bucket is missing"},
		{func(c *faas.Config) { c.Options = map[string]string{"runtime": "go12"} }, `option "runtime"`},
		{func(c *faas.Config) { c.Options = map[string]string{"concurrency": "1001"} }, `option "concurrency"`},
		{func(c *faas.Config) { c.Options = map[string]string{"labels": "A=b"} }, `option "labels"`},
		{func(c *faas.Config) { c.Options = map[string]string{"labels": "blueprint-job=b"} }, `option "labels"`},
		{func(c *faas.Config) { c.Options = map[string]string{"labels": "a=b,a=c"} }, "twice"},
		{func(c *faas.Config) { c.Options = map[string]string{"secrets": "A"} }, `option "secrets"`},
		{func(c *faas.Config) { c.Options = map[string]string{"vpc_egress": "all-traffic"} }, "vpc_connector"},
		{func(c *faas.Config) { c.Options = map[string]string{"public": "maybe"} }, `option "public"`},
		{func(c *faas.Config) { c.Options = map[string]string{"invokers": "allUsers"} }, "option public"},
		{func(c *faas.Config) { c.Options = map[string]string{"functions_endpoint": "ftp://x"} }, "functions_endpoint"},
		{func(c *faas.Config) { c.Options = map[string]string{"build_env": "GO PROXY=x"} }, `option "build_env"`},
		{func(c *faas.Config) {
			c.Options = map[string]string{"repository": "projects/p/locations/r/connectors/c"}
		}, "locations/R/repositories/NAME"},
		{func(c *faas.Config) { c.Options = map[string]string{"deploy_timeout_secs": "1"} },
			`called "ready_timeout_secs" now`},
		{func(c *faas.Config) { c.Options = map[string]string{"nonsense": "1"} }, "nonsense"},
	} {
		cfg := faas.Config{Service: "s", ProjectID: "test-project"}
		test.change(&cfg)
		_, err := gcp.New(t.Context(), cfg)
		wantError(t, err, faas.ErrInvalidArgument, test.words)
	}
}

func TestTheEnvironmentOfGooglesCommandLineCounts(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	t.Setenv(gcp.FunctionsEndpointEnv, s.URL+"/")
	t.Setenv(gcp.RunEndpointEnv, s.URL+"/")
	t.Setenv(gcp.DisableCredentialsEnv, "True")
	t.Setenv(gcp.RegionEnv, "europe-west4")
	exec, err := faas.Open(t.Context(), faas.Config{
		Provider: faas.GCPFunctions, Service: "env", ProjectID: "test-project"})
	if err != nil {
		t.Fatal(err)
	}
	e := exec.(*gcp.Executor)
	defer e.Close()
	state := converge(t, e, units(t, e, function(0))[0])
	if want := "projects/test-project/locations/europe-west4/functions/env-job0"; state.Resource != want {
		t.Errorf("resource %q, want %q", state.Resource, want)
	}
	if _, err := e.Invoke(context1m(t), 0, nil); err != nil {
		t.Error(err)
	}
	if text := fmt.Sprintf("%+v", e); !strings.Contains(text, "europe-west4") {
		t.Errorf("prints as %s", text)
	}
}

// A place is resolved once. The result then means the same in every environment.
func TestAPlaceIsResolvedOnce(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(key, []byte(`{"type":"service_account","project_id":"of-the-key"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	google := map[string]string{
		"functions_endpoint": "https://cloudfunctions.googleapis.com/", "run_endpoint": "https://run.googleapis.com/",
		"storage_endpoint": "https://storage.googleapis.com/",
	}
	elsewhere := maps.Clone(google)
	elsewhere["run_endpoint"] = "https://run.example/"
	for name, test := range map[string]struct {
		env  map[string]string
		cfg  faas.Config
		want faas.Config
	}{
		"nothing": {want: faas.Config{Region: "us-central1", Options: google}},
		"the environment": {env: map[string]string{
			gcp.RegionEnv: "europe-west4", "GOOGLE_CLOUD_PROJECT": "of-env", gcp.RunEndpointEnv: "https://run.example/"},
			want: faas.Config{Region: "europe-west4", ProjectID: "of-env", Options: elsewhere}},
		"the configuration": {env: map[string]string{gcp.RegionEnv: "europe-west4", "GOOGLE_CLOUD_PROJECT": "of-env"},
			cfg:  faas.Config{Region: "us-east1", ProjectID: "p"},
			want: faas.Config{Region: "us-east1", ProjectID: "p", Options: google}},
		"gcloud's own project": {env: map[string]string{"CLOUDSDK_CORE_PROJECT": "of-gcloud", "GCLOUD_PROJECT": "other"},
			want: faas.Config{Region: "us-central1", ProjectID: "of-gcloud", Options: google}},
		"the key's project": {env: map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": key},
			want: faas.Config{Region: "us-central1", ProjectID: "of-the-key", Options: google}},
	} {
		t.Run(name, func(t *testing.T) {
			for env, value := range test.env {
				t.Setenv(env, value)
			}
			test.cfg.Provider, test.want.Provider = faas.GCPFunctions, faas.GCPFunctions
			got := faas.Resolve(test.cfg)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, env := range []string{gcp.RegionEnv, gcp.FunctionsEndpointEnv, gcp.RunEndpointEnv, gcp.StorageEndpointEnv} {
				t.Setenv(env, "later")
			}
			if diff := cmp.Diff(got, faas.Resolve(got)); diff != "" {
				t.Errorf("it is another one later (-before +after):\n%s", diff)
			}
		})
	}
	info, _ := faas.Provider(faas.GCPFunctions)
	for _, o := range info.Options {
		if want := slices.Contains([]string{"mode", "functions_endpoint", "run_endpoint", "storage_endpoint"},
			o.Name); o.Place != want {
			t.Errorf("option %s: Place is %v", o.Name, o.Place)
		}
	}
}

func TestAnotherProjectsStateIsRefused(t *testing.T) {
	e := open(t, faas.Config{Service: "s", ProjectID: "here"})
	for resource, code := range map[string]faas.Code{
		"":          "",
		"something": "",
		"projects/here/locations/us-central1/functions/s-job0":      "",
		"projects/123456789/locations/us-central1/functions/s-job0": "",
		"projects/there/locations/us-central1/functions/s-job0":     faas.ErrConflict,
		"projects/here/locations/us-east1/functions/s-job0":         faas.ErrConflict,
	} {
		if err := e.CheckPlace(t.Context(), faas.State{ID: "s-job0", Resource: resource}); faas.CodeOf(err) != code {
			t.Errorf("%q: %v", resource, err)
		}
	}
}

// Google would refuse these only after a build.
func TestProcessorsThatDoNotGoWithTheRestAreRefused(t *testing.T) {
	s := gcptest.Start(t, builder)
	bin := &faas.Binary{Path: "x", Size: 1, Executable: true, Format: faas.FormatELF, OS: "linux", Arch: faas.AMD64,
		Static: true, Protocols: faas.SpeaksAll}
	for _, test := range []struct {
		cpu, concurrency string
		memory, most     uint32
		code             faas.Code
		words            string
	}{
		{"0.5", "20", 512, 0, faas.ErrInvalidArgument, "concurrency"},
		{"0.5", "20", 512, 1, "", ""}, // the job serves one call at a time
		{"0.5", "", 1024, 0, "", ""},
		{"0.5", "", 2048, 0, faas.ErrTooLarge, "at most 1024 MiB"},
		{"0.25", "", 1024, 0, faas.ErrTooLarge, "at most 512 MiB"},
		{"99", "", 512, 0, faas.ErrInvalidArgument, `option "cpu"`},
		{"3", "", 2048, 0, faas.ErrInvalidArgument, `option "cpu"`},
		{"0.07", "", 512, 0, faas.ErrInvalidArgument, `option "cpu"`},
		{"8", "", 128, 0, faas.ErrInvalidArgument, "at least 4096 MiB"},
		{"1", "", 32768, 0, faas.ErrTooLarge, "at most 4096 MiB"},
		{"1", "", 4096, 0, "", ""},
		{"8", "80", 32768, 0, "", ""},
		{"", "80", 32768, 0, "", ""},
	} {
		for _, options := range [][]string{nil, {"mode=cloud-run", "bucket=test-bucket"}} {
			options = append(options, "cpu="+test.cpu, "concurrency="+test.concurrency)
			e, err := gcp.New(t.Context(), config(s, "cpu", options...))
			if err == nil {
				f := function(7)
				f.MemoryMB, f.MaxConcurrency = test.memory, test.most
				_, err = e.Units(bin, []faas.Function{f})
				e.Close()
			}
			if test.code == "" {
				if err != nil {
					t.Errorf("cpu %q, concurrency %q, %d MiB: %v", test.cpu, test.concurrency, test.memory, err)
				}
				continue
			}
			if faas.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.words) {
				t.Errorf("cpu %q, concurrency %q, %d MiB: %v, want %q with %q", test.cpu, test.concurrency, test.memory, err,
					test.code, test.words)
			}
		}
	}
}

func TestUnitsThatGoogleWouldRefuseAreRefused(t *testing.T) {
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "units", "max_instances=3", "secrets=TOKEN=my-secret"))
	bin := &faas.Binary{Path: "x", Size: 1, Executable: true, Format: faas.FormatELF, OS: "linux", Arch: faas.AMD64,
		Static: true, Protocols: faas.SpeaksAll}
	for _, test := range []struct {
		change func(*faas.Function)
		code   faas.Code
		words  string
	}{
		{func(f *faas.Function) { f.MemoryMB = 600 }, faas.ErrInvalidArgument, "1024 MiB"},
		{func(f *faas.Function) { f.MemoryMB = 40000 }, faas.ErrTooLarge, "32768"},
		{func(f *faas.Function) { f.Env["PORT"] = faas.NewSecret("1") }, faas.ErrInvalidArgument, "PORT"},
		{func(f *faas.Function) { f.Env["X_GOOGLE_A"] = faas.NewSecret("1") }, faas.ErrInvalidArgument, "X_GOOGLE_A"},
		{func(f *faas.Function) { f.Env["TOKEN"] = faas.NewSecret("1") }, faas.ErrInvalidArgument, "secrets"},
		{func(f *faas.Function) { f.Env["A"] = faas.NewSecret("a\x00") }, faas.ErrInvalidArgument, "NUL"},
		{func(f *faas.Function) { f.Env["A"] = faas.NewSecret(strings.Repeat("a", 32<<10)) }, faas.ErrTooLarge, "32768"},
		{func(f *faas.Function) { f.KeepWarm = 4 }, faas.ErrInvalidArgument, "allow at most 3"},
		{func(f *faas.Function) { f.KeepWarm, f.MaxConcurrency = 3, 2 }, faas.ErrInvalidArgument, "allow at most 2"},
	} {
		f := function(7)
		test.change(&f)
		_, err := e.Units(bin, []faas.Function{f})
		wantError(t, err, test.code, test.words, "job 7")
	}
	for _, test := range []struct {
		change func(*faas.Binary)
		words  string
	}{
		{func(b *faas.Binary) { b.Arch = faas.ARM64 }, "amd64"},
		{func(b *faas.Binary) { b.OS = "darwin" }, "Linux"},
		{func(b *faas.Binary) { b.Static, b.Libraries = false, []string{"libssl.so.3"} }, "libssl.so.3"},
		{func(b *faas.Binary) { b.Static, b.Interpreter = false, "/lib/ld-musl-x86_64.so.1" }, "ld-musl"},
	} {
		changed := *bin
		test.change(&changed)
		_, err := e.Units(&changed, []faas.Function{function(7)})
		wantError(t, err, faas.ErrInvalidArgument, test.words)
	}
	bin.Static, bin.Interpreter, bin.Libraries = false, "/lib64/ld-linux-x86-64.so.2", []string{"libc.so.6"}
	if _, err := e.Units(bin, []faas.Function{function(7)}); err != nil {
		t.Errorf("a binary that needs glibc alone is refused: %v", err)
	}
}

// FuzzNames checks that every service gets names that Google accepts and no other service gets.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"a", "Alpha", "1a", "日本", "job0", "a-0123456789", strings.Repeat("long-", 30)} {
		f.Add(name, "alpha", uint32(4294967295))
	}
	valid := regexp.MustCompile(`^[a-z]([-a-z0-9]{0,47}[a-z0-9])?$`)
	bin := &faas.Binary{Path: "x", Size: 1, Executable: true, Format: faas.FormatELF, OS: "linux", Arch: faas.AMD64,
		Static: true, Protocols: faas.SpeaksAll}
	id := func(t *testing.T, service string, job uint32) string {
		e, err := gcp.New(t.Context(), faas.Config{Service: service, ProjectID: "test-project"})
		if err != nil {
			t.Skip(err)
		}
		defer e.Close()
		units, err := e.Units(bin, []faas.Function{function(job)})
		if err != nil {
			t.Fatal(err)
		}
		return units[0].ID
	}
	f.Fuzz(func(t *testing.T, a, b string, job uint32) {
		one := id(t, a, job)
		if !valid.MatchString(one) {
			t.Errorf("service %q: %q", a, one)
		}
		if a != b && one == id(t, b, job) {
			t.Errorf("services %q and %q both have %q", a, b, one)
		}
	})
}

func TestPreflightNamesWhatIsMissing(t *testing.T) {
	s := gcptest.Start(t, builder)
	for _, api := range []string{"SERVICEUSAGE", "CLOUDRESOURCEMANAGER", "CLOUDBUILD"} {
		t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_"+api, s.URL)
	}
	e := open(t, config(s, "preflight"))
	if err := e.Preflight(context1m(t)); err != nil {
		t.Fatal(err)
	}
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "services:batchGet"):
			_, _ = w.Write([]byte(`{"services":[{"name":"projects/1/services/run.googleapis.com","state":"ENABLED"}]}`))
		case strings.HasSuffix(r.URL.Path, ":testIamPermissions"):
			_, _ = w.Write([]byte(`{}`))
		case strings.HasSuffix(r.URL.Path, ":getIamPolicy"):
			_, _ = w.Write([]byte(`{"bindings":[{"role":"roles/viewer","members":["user:a@example.com"]}]}`))
		case strings.HasSuffix(r.URL.Path, "/iam/testPermissions"):
			gcptest.Fail(w, 404, "NOT_FOUND", "The specified bucket does not exist.")
		default:
			return false
		}
		return true
	}
	wantError(t, e.Preflight(context1m(t)), faas.ErrPermissionDenied,
		"gcloud services enable cloudbuild.googleapis.com --project=test-project", "--role=roles/cloudfunctions.developer",
		"cloudfunctions.functions.create", "--role=roles/iam.serviceAccountUser",
		"--member=serviceAccount:123456789-compute@developer.gserviceaccount.com --role=roles/cloudbuild.builds.builder")
	e = open(t, config(s, "preflight", "mode=cloud-run", "bucket=my-bucket"))
	wantError(t, e.Preflight(context1m(t)), faas.ErrPermissionDenied, "gcloud storage buckets create gs://my-bucket",
		"--role=roles/run.developer")
}
