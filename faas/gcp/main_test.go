//go:build !faas_only || faas_gcp

package gcp_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

// builder compiles each source shim once for all tests.
var builder *gcptest.Builder

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gcp-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{gcp.RegionEnv, gcp.FunctionsEndpointEnv, gcp.RunEndpointEnv, gcp.StorageEndpointEnv,
		gcp.DisableCredentialsEnv, gcp.ImpersonateEnv,
		"GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"} {
		os.Unsetenv(name)
	}
	builder, shared, packages.dir = gcptest.NewBuilder(dir), dir, dir
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// shared is a directory for all tests.
var shared string

// packages builds each package once for all tests.
var packages packageCache

type packageCache struct {
	mu  sync.Mutex
	dir string
	m   map[string]*faas.Package
}

func (c *packageCache) build(files []faas.PackageFile) (*faas.Package, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprint(files)
	if c.m[key] == nil {
		pkg, err := faas.BuildPackage(context.Background(), c.dir, files)
		if err != nil {
			return nil, err
		}
		if c.m == nil {
			c.m = map[string]*faas.Package{}
		}
		c.m[key] = pkg
	}
	return c.m[key], nil
}

var jobs struct {
	sync.Mutex
	binary *faas.Binary
}

// jobBinary returns the test's job binary, which is built once for all tests.
func jobBinary(t testing.TB) *faas.Binary {
	t.Helper()
	jobs.Lock()
	defer jobs.Unlock()
	if jobs.binary == nil {
		text, err := os.ReadFile(faastest.JobBinary(t))
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(shared, "testjob")
		if err := os.WriteFile(name, text, 0o755); err != nil {
			t.Fatal(err)
		}
		if jobs.binary, err = faas.InspectBinary(name); err != nil {
			t.Fatal(err)
		}
	}
	return jobs.binary
}

// otherVersion returns the test's job binary with different code.
func otherVersion(t testing.TB) *faas.Binary {
	t.Helper()
	bin, err := faas.InspectBinary(faastest.AddVersion(t, jobBinary(t).Path, "2"))
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// script returns a binary that speaks only stdin and stdout.
func script(t testing.TB, text string) *faas.Binary {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script.sh")
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := faas.InspectBinary(name)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// runsHere skips a test on machines that cannot run Google's binaries.
func runsHere(t testing.TB) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("functions for Google run on linux/amd64 alone")
	}
}

// config returns a configuration for the fake.
func config(s *gcptest.Server, service string, options ...string) faas.Config {
	cfg := faas.Config{Provider: faas.GCPFunctions, Service: service, ProjectID: "test-project",
		Options: map[string]string{
			"functions_endpoint": s.URL, "run_endpoint": s.URL + "/", "storage_endpoint": s.URL, "disable_credentials": "true",
		}}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		cfg.Options[name] = value
	}
	return cfg
}

func open(t testing.TB, cfg faas.Config, opts ...gcp.Option) *gcp.Executor {
	t.Helper()
	e, err := gcp.New(t.Context(), cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func harness(t testing.TB, s *gcptest.Server, options ...string) faastest.Harness {
	for _, api := range []string{"LOGGING", "SERVICEUSAGE", "CLOUDRESOURCEMANAGER", "CLOUDBUILD"} {
		t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_"+api, s.URL)
	}
	return faastest.Harness{
		Provider: faas.GCPFunctions, Binary: jobBinary(t), MaxBody: 32 << 20,
		Open: func(t testing.TB, service string) faas.Executor {
			e, err := gcp.New(t.Context(), config(s, service, options...), gcp.WithFastLogs())
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			base := http.DefaultTransport.(*http.Transport).Clone()
			t.Cleanup(base.CloseIdleConnections)
			cfg := config(s, service, options...)
			cfg.HTTPClient = &http.Client{Transport: sky.Transport(base)}
			e, err := gcp.New(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		OpenLossy: func(t testing.TB, service string) faas.Executor {
			base := http.DefaultTransport.(*http.Transport).Clone()
			t.Cleanup(base.CloseIdleConnections)
			cfg := config(s, service, options...)
			cfg.HTTPClient = &http.Client{Transport: faastest.FaultyTransport(base, func(r *http.Request) *faastest.Fault {
				if strings.HasPrefix(r.URL.Path, "/fn/") {
					return &faastest.Fault{Kind: faastest.LostAnswer}
				}
				return nil
			})}
			e, err := gcp.New(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
	}
}

func TestCloudFunctionsKeepTheContract(t *testing.T) {
	runsHere(t)
	faastest.Run(t, harness(t, gcptest.Start(t, builder)))
}

func TestCloudRunKeepsTheContract(t *testing.T) {
	runsHere(t)
	faastest.Run(t, harness(t, gcptest.Start(t, builder), "mode=cloud-run", "bucket=test-bucket"))
}
