//go:build !faas_only || faas_aws

package aws

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// policyFor returns the configuration of an operator's file.
func policyFor(t *testing.T, text string) serverless.ServerlessConfig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "deployment-policy.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	if err != nil {
		t.Fatal(err)
	}
	return p.Serverless.Config()
}

// The engine deploys two jobs, and each call in turn is refused or loses its answer. The deployment
// succeeds or leaves the account as it was; the next one succeeds, and removal leaves nothing.
func TestTheEngineLeavesNothingHalfDone(t *testing.T) {
	var at, count atomic.Int64
	var fault lambdatest.Fault
	withCode := func(i lambdatest.Invocation) lambdatest.Answer { // answers with the code and the configuration
		i.Version = i.CodeSha256
		return answering(i)
	}
	server := serve(t, lambdatest.Config{Handler: withCode, Pending: -1, Updating: -1,
		Fault: func(lambdatest.Call) *lambdatest.Fault {
			if count.Add(1) == at.Load() {
				return &fault
			}
			return nil
		}})
	setenv(t, server)
	cfg := policyFor(t, `{"serverless":{
		"enable":true, "provider":{"type":"aws-lambda","region":"us-east-1"}, "default_memory_mb":512,
		"default_timeout_secs":60, "provider_config":{"remove_logs":"true"}}}`)
	spec := serverless.ServiceSpec{Name: "engine", BinaryPath: script(t, "one").Path,
		Env: map[string]string{"VALUE": "-one"}}
	updated := serverless.ServiceSpec{Name: "engine", BinaryPath: script(t, "two").Path,
		Env: map[string]string{"VALUE": "-two"}}
	state := t.TempDir()
	run := func(spec serverless.ServiceSpec) (*serverless.Service, error) {
		return serverless.DeployServerless(t.Context(), spec, []uint32{0, 1}, cfg, serverless.WithStateDir(state),
			serverless.WithoutRunner())
	}
	codeOf := map[string]string{} // by the value that it is deployed with
	check := func(svc *serverless.Service, want string) {
		t.Helper()
		for job := range uint32(2) {
			r, err := svc.Invoke(t.Context(), job, []byte{1})
			if err != nil {
				t.Fatalf("job %d: %v; want %s", job, err, want)
			}
			code, value, _ := strings.Cut(string(r.Output), "-")
			if codeOf[want] == "" {
				codeOf[want] = code
			}
			if "-"+value != want || code != codeOf[want] {
				t.Fatalf("job %d answers with value -%s and code %s; want %s and %s", job, value, code, want, codeOf[want])
			}
		}
		if len(codeOf) == 2 && codeOf["-one"] == codeOf["-two"] {
			t.Fatal("both deployments have the same code")
		}
	}
	for _, kind := range []struct {
		name  string
		fault lambdatest.Fault
	}{
		{"refused", lambdatest.Fault{Status: 403, Code: "AccessDeniedException", Message: "not today"}},
		{"lost answer", lambdatest.Fault{Status: 403, Code: "AccessDeniedException", Message: "not today", Late: true}},
	} {
		fault = kind.fault
		for n := int64(1); n < 60; n++ {
			count.Store(0)
			at.Store(n)
			svc, err := run(spec)
			reached := count.Load() >= n
			at.Store(0)
			if err != nil {
				if left := server.Left(); len(left) != 0 {
					t.Fatalf("%s at call %d: left %v after %v", kind.name, n, left, err)
				}
				if svc, err = run(spec); err != nil {
					t.Fatalf("after %s at call %d: %v", kind.name, n, err)
				}
			}
			check(svc, "-one")
			if !reached {
				if err := svc.Undeploy(t.Context()); err != nil {
					t.Fatal(err)
				}
				break
			}
			count.Store(0)
			at.Store(n)
			next, err := run(updated)
			at.Store(0)
			if err != nil {
				check(svc, "-one")
				if next, err = run(updated); err != nil {
					t.Fatalf("after %s at call %d of the update: %v", kind.name, n, err)
				}
			}
			check(next, "-two")
			if err := next.Undeploy(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := server.Left(); len(left) != 0 {
				t.Fatalf("left %v", left)
			}
		}
	}
}

func TestAnUnchangedServiceIsOnlyRead(t *testing.T) {
	server := serve(t, lambdatest.Config{Handler: answering})
	setenv(t, server)
	cfg := policyFor(t, `{"serverless":{"enable":true,"provider":{"type":"aws-lambda"}}}`)
	spec := serverless.ServiceSpec{Name: "unchanged", BinaryPath: script(t, "one").Path}
	state := t.TempDir()
	for i := range 2 {
		server.ForgetCalls()
		svc, err := serverless.DeployServerless(t.Context(), spec, []uint32{0, 1, 2}, cfg, serverless.WithStateDir(state),
			serverless.WithoutRunner())
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			calls := map[string]int{}
			for _, operation := range operations(server.Calls()) {
				calls[operation]++
			}
			want := map[string]int{ // each function is looked at, and listed once more with those that no ledger knows
				"GetAlias": 3, "GetFunction": 6, "ListFunctions": 1, "GetCallerIdentity": 1,
			}
			if diff := cmp.Diff(want, calls); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := svc.Undeploy(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := svc.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
