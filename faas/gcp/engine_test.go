//go:build !faas_only || faas_gcp

package gcp_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

// valueBinary answers with a number for the value of VALUE. It is a script for the sake of time: its package is small.
const valueBinary = `#!/bin/sh
read -r request
case "$VALUE" in
one) echo '{"result":[1]}';;
*) echo '{"result":[2]}';;
esac
`

// deployService deploys three jobs through the engine.
func deployService(t *testing.T, s *gcptest.Server, state, value string) (*serverless.Service, error) {
	t.Helper()
	cfg := serverless.ServerlessConfig{Provider: config(s, ""), DefaultMemoryMB: 512, DefaultTimeoutSecs: 60}
	spec := serverless.ServiceSpec{Name: "Engine Service", BinaryPath: script(t, valueBinary).Path, Env: map[string]string{"VALUE": value}}
	return serverless.DeployServerless(context1m(t), spec, []uint32{0, 1, 2}, cfg,
		serverless.WithoutRunner(), serverless.WithStateDir(state))
}

func TestTheEngineLeavesNothingBehindWhateverFails(t *testing.T) {
	runsHere(t)
	// third acts on the third request that matches, and on all after it.
	third := func(match string, act http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		var seen atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.Method+" "+r.URL.String(), match) || seen.Add(1) < 3 {
				return false
			}
			act(w, r)
			return true
		}
	}
	for name, arm := range map[string]func(*gcptest.Server){
		"a build fails": func(s *gcptest.Server) {
			s.Build = func(_, id string) *gcptest.Status {
				if strings.HasSuffix(id, "job1") {
					return &gcptest.Status{Code: 3, Message: "Build failed", Build: "no space left"}
				}
				return nil
			}
		},
		"a permission is missing": func(s *gcptest.Server) {
			s.Intercept = third("functionId=", answer(403, "PERMISSION_DENIED", "Permission 'cloudfunctions.functions.create' denied"))
		},
		"an answer is malformed": func(s *gcptest.Server) {
			s.Intercept = third("functionId=", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, state := gcptest.Start(t, builder), t.TempDir()
			arm(s)
			if _, err := deployService(t, s, state, "one"); err == nil {
				t.Fatal("no error")
			} else if !errors.As(err, new(*faas.Error)) {
				t.Errorf("the error is no *faas.Error: %v", err)
			}
			if names := s.Functions(); len(names) != 0 {
				t.Errorf("left behind: %v", names)
			}
			s.Intercept, s.Build = nil, nil
			svc, err := deployService(t, s, state, "one")
			if err != nil {
				t.Fatal(err)
			}
			if err := svc.Undeploy(context1m(t)); err != nil {
				t.Fatal(err)
			}
			if names := s.Functions(); len(names) != 0 {
				t.Errorf("left behind by Undeploy: %v", names)
			}
		})
	}
}

func TestTheEnginePutsBackWhatAFailedUpdateChanged(t *testing.T) {
	runsHere(t)
	s, state := gcptest.Start(t, builder), t.TempDir()
	if _, err := deployService(t, s, state, "one"); err != nil {
		t.Fatal(err)
	}
	var failed atomic.Bool
	s.Build = func(method, id string) *gcptest.Status {
		if method == "update" && strings.HasSuffix(id, "job1") && failed.CompareAndSwap(false, true) {
			return &gcptest.Status{Code: 13, Message: "an internal error has occurred"}
		}
		return nil
	}
	if _, err := deployService(t, s, state, "two"); err == nil {
		t.Fatal("no error")
	}
	s.Build = nil
	svc, err := deployService(t, s, state, "one")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := svc.Invoke(context1m(t), 2, nil); err != nil || string(r.Output) != "\x01" {
		t.Errorf("Invoke: %v, %v", r, err)
	}
	if err := svc.Undeploy(context1m(t)); err != nil {
		t.Fatal(err)
	}
}

func TestQuotasAreWaitedOutByTheEngine(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.Intercept = once(2, "POST /v2/projects/test-project/locations/us-central1/functions", answer(429, "RESOURCE_EXHAUSTED", "Quota exceeded"))
	svc, err := deployService(t, s, t.TempDir(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Undeploy(context1m(t)); err != nil {
		t.Fatal(err)
	}
}
