package custom_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

// version returns a binary that answers number and the value in its environment.
func version(t *testing.T, number int) *faas.Binary {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\ncat >/dev/null\necho \"{\\\"result\\\":[%d,$VALUE]}\"\n",
		number), 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := faas.InspectBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// deployAll makes the engine deploy that version for jobs 0 to n-1, with value in the environment.
func deployAll(t *testing.T, exec faas.Executor, bin *faas.Binary, value string, n uint32) error {
	t.Helper()
	var functions []faas.Function
	for job := range n {
		functions = append(functions, faas.Function{
			JobID: job, MemoryMB: 256, TimeoutSecs: 60, Env: faas.NewEnv(map[string]string{"VALUE": value})})
	}
	units, err := exec.Units(bin, functions)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range units {
		if units[i].Package, err = faas.BuildPackage(t.Context(), dir, units[i].Files); err != nil {
			t.Fatal(err)
		}
	}
	// one at a time, so that the last one fails after the others were replaced
	e := engine.New(exec, faas.Custom, engine.Options{Parallel: 1})
	changes, err := e.Observe(t.Context(), units, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Apply(t.Context(), changes)
	return err
}

func TestADeploymentWhoseLastFunctionFailsLeavesTheOthersAsTheyWere(t *testing.T) {
	for name, executor := range map[string]func(*testing.T, *platform.Platform) faas.Executor{
		"over HTTP": func(t *testing.T, p *platform.Platform) faas.Executor {
			server := httptest.NewServer(p)
			t.Cleanup(server.Close)
			return open(t, faas.Config{Service: "My Service", Endpoint: server.URL})
		},
		"in process": func(_ *testing.T, p *platform.Platform) faas.Executor { return p.Executor("My Service") },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := platform.New(platform.WithLimits(platform.Limits{MaxFunctions: 3}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
			exec := executor(t, p)
			answers := func() (all [][]byte) {
				for job := range uint32(3) {
					r, err := exec.Invoke(t.Context(), job, nil)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, r.Output)
				}
				return all
			}
			one, two := version(t, 1), version(t, 2)
			if err := deployAll(t, exec, one, "10", 3); err != nil {
				t.Fatal(err)
			}
			for range 2 { // what was put back can be put back again
				err = deployAll(t, exec, two, "20", 4)
				var failed *faas.Error
				if !errors.As(err, &failed) || failed.Code != faas.ErrTooLarge || len(failed.Leftovers) > 0 {
					t.Fatalf("got %v", err)
				}
				if diff := cmp.Diff([][]byte{{1, 10}, {1, 10}, {1, 10}}, answers()); diff != "" {
					t.Error(diff)
				}
			}
			if states, err := exec.List(t.Context()); err != nil || len(states) != 3 {
				t.Error(states, err)
			}
			if err := deployAll(t, exec, two, "20", 3); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]byte{{2, 20}, {2, 20}, {2, 20}}, answers()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFunctionsAreTheSameOverHTTPAndInProcess(t *testing.T) {
	p, err := platform.New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	bin := script(t)
	for _, service := range []string{"svc", "My Service", "a_b", "日本"} {
		over, err := open(t, faas.Config{Service: service, Endpoint: "http://127.0.0.1:1"}).Units(
			bin, []faas.Function{small("x")})
		if err != nil {
			t.Fatal(err)
		}
		in, err := p.Executor(service).Units(bin, []faas.Function{small("x")})
		if err != nil {
			t.Fatal(err)
		}
		if over[0].ID != in[0].ID || over[0].Fingerprint() != in[0].Fingerprint() {
			t.Errorf("%q: %s over HTTP, %s in process", service, over[0].ID, in[0].ID)
		}
	}
}

// The platform keeps one earlier generation. Restore reports an older one as a conflict, because an
// ErrUnsupported would have to be announced beforehand.
func TestRestoreOfAnOlderGenerationIsAConflict(t *testing.T) {
	p, err := platform.New()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	e := open(t, faas.Config{Endpoint: server.URL})
	one := deploy(t, e, small("one"))
	prior, err := e.Observe(t.Context(), one.ID)
	if err != nil || prior.NotRestorable != "" {
		t.Fatal(prior, err)
	}
	deploy(t, e, small("two"))
	three := deploy(t, e, small("three"))
	if err := e.Restore(t.Context(), prior); faas.CodeOf(err) != faas.ErrConflict {
		t.Errorf("got %v", err)
	}
	if now, err := e.Observe(t.Context(), one.ID); err != nil || !now.Current(three) {
		t.Errorf("%+v, %v", now, err)
	}
}
