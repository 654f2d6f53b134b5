//go:build linux || darwin

package serverless_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// endpoint answers as a runner's health endpoint does, and writes its address into the directory.
type endpoint struct {
	*httptest.Server
	service, reason atomic.Value // of strings; no reason is health
	asked           atomic.Int32
}

func newEndpoint(t testing.TB, dir, file string) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.service.Store("5")
	e.reason.Store("")
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.asked.Add(1)
		w.Header().Set("Blueprint-Service", e.service.Load().(string))
		if reason := e.reason.Load().(string); reason != "" || r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, reason)
		}
	}))
	t.Cleanup(e.Close)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(e.URL, "http://") + "\n"
	if err := os.WriteFile(filepath.Join(dir, file), []byte(address), 0o600); err != nil {
		t.Fatal(err)
	}
	return e
}

// servesFive returns a service on chain with the number 5, and its data directory.
func servesFive(t testing.TB) (serverless.ServiceSpec, string) {
	t.Helper()
	spec, _ := chainSpec(t)
	spec.ServiceID, spec.DataDir = new(uint64(5)), t.TempDir()
	return spec, spec.DataDir
}

func TestARunnerTellsAboutItsOwnHealth(t *testing.T) {
	for name, orc := range map[string]*orchestrator.Local{
		"of this program": {}, "that outlives it": {Detached: true, LogDir: filepath.Join(t.TempDir(), "logs")},
	} {
		t.Run(name, func(t *testing.T) {
			spec, data := servesFive(t)
			state := t.TempDir()
			cloud := faastest.NewMemory(faastest.WithJob(answer))
			svc := deployBeside(t, spec, "f", serverless.WithOrchestrator(orc), serverless.WithStateDir(state),
				serverless.WithExecutor(cloud.Executor("svc")))
			if orc.Detached {
				if err := svc.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				var err error
				if svc, err = serverless.OpenService(t.Context(), "svc", serverless.WithStateDir(state),
					serverless.WithExecutor(cloud.Executor("svc")), serverless.WithOrchestrator(orc)); err != nil {
					t.Fatal(err)
				}
			}
			health := func(want string) {
				t.Helper()
				h, err := svc.Health(t.Context())
				if err != nil || h.Runner == nil || h.Runner.Reason != want || h.Healthy != (want == "") ||
					h.Runner.Healthy != (want == "") {
					t.Errorf("health %+v %+v, %v, want %q", h, h.Runner, err, want)
				}
			}
			health("") // it says nothing, as runners of other kinds do
			e := newEndpoint(t, data, "runner-5.addr")
			health("")
			if e.asked.Load() == 0 {
				t.Error("the runner was not asked")
			}
			e.reason.Store("70 blocks behind the chain;\x1b[31m  it has no gas")
			health("70 blocks behind the chain;\ufffd[31m it has no gas")
			e.service.Store("6") // the address is another program's by now
			health("")
			if err := os.WriteFile(filepath.Join(data, "runner-5.addr"), []byte("192.0.2.1:80\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			health("")
			e = newEndpoint(t, data, "runner-5.addr")
			e.Close()
			h, err := svc.Health(t.Context())
			if err != nil || h.Healthy || !strings.Contains(h.Runner.Reason, "does not answer about its health") {
				t.Errorf("a runner that does not answer: %+v, %v", h.Runner, err)
			}
			if err := svc.Undeploy(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAStartWaitsUntilTheRunnerHasSaidSomething(t *testing.T) {
	spec, data := servesFive(t)
	e := newEndpoint(t, data, "runner-5.addr")
	e.reason.Store("no node can be used")
	spec.BinaryPath = buildRunners(t) + "waits"
	spec.Env = map[string]string{"FACTS": filepath.Join(t.TempDir(), "facts")}
	svc := deployBeside(t, spec, "f")
	if e.asked.Load() == 0 {
		t.Error("the runner was not asked")
	}
	if h, err := svc.Health(t.Context()); err != nil || h.Healthy || h.Runner.Reason != "no node can be used" {
		t.Errorf("health %+v, %v", h.Runner, err)
	}
}

func TestTheStateOfADetachedRunnerIsInOnePlace(t *testing.T) {
	spec, _ := servesFive(t)
	spec.BinaryPath = buildRunners(t) + "answers"
	spec.Env = map[string]string{"FACTS": filepath.Join(t.TempDir(), "facts")}
	orc := &orchestrator.Local{Detached: true, LogDir: filepath.Join(t.TempDir(), "logs")}
	svc := deployBeside(t, spec, "fs", serverless.WithOrchestrator(orc))
	if _, err := svc.Invoke(t.Context(), 1, nil); !errors.Is(err, faas.ErrUnsupported) ||
		!strings.Contains(err.Error(), "submit the job on chain") {
		t.Errorf("a local job: %v", err)
	}
	if !strings.Contains(strings.Join(svc.Warnings(), "\n"), "[1] cannot be invoked") {
		t.Errorf("warnings %q", svc.Warnings())
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Error(err)
	}
}
