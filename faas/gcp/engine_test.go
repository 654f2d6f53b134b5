//go:build !faas_only || faas_gcp

package gcp_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// valueBinary answers with a number that depends on VALUE. It is a script because its package is
// small, which saves time.
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
	spec := serverless.ServiceSpec{Name: "Engine Service", BinaryPath: script(t, valueBinary).Path,
		Env: map[string]string{"VALUE": value}}
	return serverless.DeployServerless(context1m(t), spec, []uint32{0, 1, 2}, cfg,
		serverless.WithoutRunner(), serverless.WithStateDir(state))
}

func TestTheEngineLeavesNothingBehindWhateverFails(t *testing.T) {
	runsHere(t)
	// third acts on the third request that matches, and on all later ones.
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
			s.Intercept = third("functionId=", answer(
				403, "PERMISSION_DENIED", "Permission 'cloudfunctions.functions.create' denied"))
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

// otherBinary is another version of valueBinary.
const otherBinary = `#!/bin/sh
read -r request
case "$VALUE" in
one) echo '{"result":[3]}';;
*) echo '{"result":[4]}';;
esac
`

// Three jobs get new code and new configuration, and the second fails at one step after another.
// The functions must answer as before without another deployment.
func TestTheEnginePutsBackWhatAFailedUpdateChanged(t *testing.T) {
	runsHere(t)
	second := func(parts ...string) func(r *http.Request) bool {
		return func(r *http.Request) bool {
			return !slices.ContainsFunc(append(parts, "job1"),
				func(part string) bool { return !strings.Contains(r.Method+" "+r.URL.String(), part) })
		}
	}
	refused := answer(403, "PERMISSION_DENIED", "Permission 'cloudfunctions.functions.update' denied")
	for name, test := range map[string]struct {
		options []string
		strike  func(*http.Request) bool
		with    http.HandlerFunc
		build   *gcptest.Status
	}{
		"the update is refused": {strike: second("PATCH"), with: refused},
		"the build fails":       {build: &gcptest.Status{Code: 3, Message: "Build failed", Build: "no space left"}},
		"the operation fails":   {build: &gcptest.Status{Code: 13, Message: "an internal error has occurred"}},
		"a quota is exceeded": {build: &gcptest.Status{
			Code: 8, Message: "Quota exceeded for total allowable CPU per project per region."}},
		"the policy cannot be changed": {options: []string{"invokers=user:a@example.com"}, strike: second("setIamPolicy"),
			with: refused},
		"a service is refused": {options: []string{"mode=cloud-run", "bucket=test-bucket"}, strike: second("PATCH"),
			with: refused},
		"a service fails late": {options: []string{
			"mode=cloud-run", "bucket=test-bucket", "invokers=user:a@example.com"}, strike: second("setIamPolicy"),
			with: refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, state := gcptest.Start(t, builder), t.TempDir()
			one, two := script(t, valueBinary), script(t, otherBinary)
			if strings.Contains(fmt.Sprint(test.options), "cloud-run") {
				one, two = jobBinary(t), otherVersion(t)
			}
			before, after := test.options, test.options
			if i := slices.IndexFunc(before, func(o string) bool { return strings.HasPrefix(o, "invokers") }); i >= 0 {
				before = slices.Delete(slices.Clone(before), i, i+1)
			}
			deploy := func(bin *faas.Binary, value string, options []string) error {
				cfg := serverless.ServerlessConfig{Provider: config(s, "", options...), DefaultMemoryMB: 512,
					DefaultTimeoutSecs: 60}
				spec := serverless.ServiceSpec{Name: "back", BinaryPath: bin.Path, Env: map[string]string{"VALUE": value}}
				_, err := serverless.DeployServerless(context1m(t), spec, []uint32{0, 1, 2}, cfg, serverless.WithoutRunner(),
					serverless.WithStateDir(state))
				return err
			}
			if err := deploy(one, "one", before); err != nil {
				t.Fatal(err)
			}
			look := open(t, config(s, "back", before...))
			var states []faas.State
			for job := range uint32(3) {
				got, err := look.Observe(context1m(t), kit.CloudRunNames.Of("back", job))
				if err != nil {
					t.Fatal(err)
				}
				states = append(states, got)
			}
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if test.strike == nil || !test.strike(r) {
					return false
				}
				test.with(w, r)
				return true
			}
			var failed atomic.Bool
			s.Build = func(method, id string) *gcptest.Status {
				if test.build != nil && method == "update" && strings.HasSuffix(id, "job1") && failed.CompareAndSwap(false, true) {
					return test.build
				}
				return nil
			}
			if err := deploy(two, "two", after); err == nil {
				t.Fatal("no error")
			} else if failed := new(faas.Error); errors.As(err, &failed) && test.strike == nil && len(failed.Leftovers) > 0 {
				t.Errorf("left behind %v: %v", failed.Leftovers, err)
			}
			s.Intercept, s.Build = nil, nil
			look = open(t, config(s, "back", before...)) // which has no memory of the functions
			for job, was := range states {
				now, err := look.Observe(context1m(t), was.ID)
				if err != nil || now.PackageSHA256 != was.PackageSHA256 || now.Fingerprint != was.Fingerprint ||
					now.Status != was.Status {
					t.Errorf("job %d was %+v and is %+v, %v", job, was, now, err)
				}
				if one.Format != faas.FormatScript {
					continue
				}
				if r, err := look.Invoke(context1m(t), uint32(job), nil); err != nil || string(r.Output) != "\x01" {
					t.Errorf("job %d answers %v, %v", job, r, err)
				}
			}
		})
	}
}

func TestQuotasAreWaitedOutByTheEngine(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.Intercept = once(2, "POST /v2/projects/test-project/locations/us-central1/functions",
		answer(429, "RESOURCE_EXHAUSTED", "Quota exceeded"))
	svc, err := deployService(t, s, t.TempDir(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Undeploy(context1m(t)); err != nil {
		t.Fatal(err)
	}
}
