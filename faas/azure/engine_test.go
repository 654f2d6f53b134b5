//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// deployService deploys three jobs through the engine.
func deployService(t *testing.T, server *azuretest.Server, state, value string) (*serverless.Service, error) {
	t.Helper()
	return deployServiceIn(t.Context(), t, server, state, value, opening{})
}

func deployServiceIn(ctx context.Context, t *testing.T, server *azuretest.Server, state, value string,
	o opening) (*serverless.Service, error) {
	t.Helper()
	cfg := serverless.ServerlessConfig{
		Provider: faas.Config{Provider: faas.AzureFunctions, SubscriptionID: azuretest.Subscription,
			Region: "westeurope"},
		DefaultMemoryMB: 512, DefaultTimeoutSecs: 60,
	}
	spec := serverless.ServiceSpec{Name: "Engine Service", BinaryPath: testBinary(t).Path,
		Env: map[string]string{"FAASTEST_VALUE": value}}
	return serverless.DeployServerless(ctx, spec, someJobs, cfg, serverless.WithoutRunner(),
		serverless.WithStateDir(state),
		serverless.WithExecutor(openAt(t, server, spec.Name, o)))
}

func answersWith(t *testing.T, svc *serverless.Service, want string) {
	t.Helper()
	r, err := svc.Invoke(t.Context(), faastest.JobEnv, []byte("FAASTEST_VALUE"))
	if err != nil || string(r.Output) != want {
		t.Fatalf("Invoke: %v, %v; want %q", r, err, want)
	}
}

func TestTheEngineLeavesNothingBehindWhateverFails(t *testing.T) {
	t.Parallel()
	for name, match := range map[string]func(*http.Request) bool{
		"before there is an app":         request("PUT", "/sites/"),
		"while the package is published": request("GET", "/api/deployments/"),
		"when the functions are there":   request("POST", "/listkeys"),
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, azuretest.Config{Polls: 1,
				Fault: times(-1, match, azuretest.Fault{Status: http.StatusForbidden, Code: "AuthorizationFailed"})})
			_, err := deployService(t, server, t.TempDir(), "one")
			var failed *faas.Error
			if !errors.As(err, &failed) || failed.Code != faas.ErrPermissionDenied {
				t.Fatalf("error %v, want %v", err, faas.ErrPermissionDenied)
			}
			if left := server.Left(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestTheEnginePutsBackWhatAFailedUpdateChanged(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	// The engine waits this out.
	throttled := times(1, request("PUT", "/serverfarms/"), azuretest.Fault{Status: 429, Code: "TooManyRequests"})
	server := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
		if broken.Load() && request("POST", "/syncfunctiontriggers")(r) {
			return &azuretest.Fault{Status: http.StatusForbidden, Code: "AuthorizationFailed"}
		}
		return throttled(r)
	}})
	state := t.TempDir()
	svc, err := deployService(t, server, state, "one")
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if _, err := deployService(t, server, state, "two"); err == nil {
		t.Fatal("the update is success")
	}
	answersWith(t, svc, "one")
	broken.Store(false)
	server.Requests()
	if svc, err = deployService(t, server, state, "one"); err != nil {
		t.Fatal(err)
	}
	if n := uploads(server.Requests()); n != 0 {
		t.Errorf("what was put back needed %d uploads", n)
	}
	answersWith(t, svc, "one")
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
