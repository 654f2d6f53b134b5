package serverless_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// An event function may call any method, even one that ends the service whose event it gets.
func TestAnEventFunctionMayCallAnyMethod(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	var (
		mu      sync.Mutex
		svc     *serverless.Service
		results []error
	)
	s := spec(t)
	deployed, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("ff")), serverless.WithoutRunner(),
		serverless.WithExecutor(cloud.Executor("svc")), serverless.WithEvents(func(serverless.Event) {
			mu.Lock()
			svc := svc
			mu.Unlock()
			if svc == nil {
				return
			}
			svc.Warnings()
			_, _ = svc.Diff(context.Background())
			_, _ = svc.Health(context.Background())
			results = append(results, svc.Undeploy(context.Background()), svc.Close(context.Background()))
		}))
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	svc = deployed
	mu.Unlock()
	if err := deployed.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(results...); err != nil || len(results) == 0 {
		t.Errorf("%d calls of the event function: %v", len(results)/2, err)
	}
	if left := cloud.Units(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAServiceMayBeUsedWhileItIsUndeployed(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	s := spec(t)
	svc, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("fs")), serverless.WithExecutor(cloud.Executor("svc")),
		serverless.WithOrchestrator(orchestratorFunc(
			func(orchestrator.Spec) (orchestrator.Runner, error) { return hookRunner{}, nil })))
	if err != nil {
		t.Fatal(err)
	}
	// The handle of another program, which finds the runner only when it undeploys.
	var users, enders sync.WaitGroup
	over := make(chan struct{})
	for _, use := range []func(){
		func() { _, _ = svc.Invoke(t.Context(), 0, nil) },
		func() { _, _ = svc.Invoke(t.Context(), 1, nil) },
		func() { _, _ = svc.Health(t.Context()) },
		func() { _, _ = svc.Diff(t.Context()) },
		func() { svc.Warnings() },
		func() { _ = fmt.Sprintf("%+v", svc) },
		func() {
			for range svc.Logs(t.Context(), faas.LogQuery{}) {
			}
		},
	} {
		users.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					use()
				}
			}
		})
	}
	errs := make([]error, 8)
	for i := range errs {
		enders.Go(func() { errs[i] = svc.Undeploy(t.Context()) })
	}
	enders.Wait()
	close(over)
	users.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// The types that hold the values of a service never show them, whether printed, logged or encoded.
func TestNothingOfAServiceShowsItsSecrets(t *testing.T) {
	inRegions(t, "north")
	pol := inRegion("north")
	pol.Serverless.ProviderConfig = map[string]string{"token": canary}
	s := spec(t)
	s.Args = []string{canary}
	var runner orchestrator.Spec
	svc, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(pol), serverless.WithMetadata(metadata("ff")),
		serverless.WithOrchestrator(orchestratorFunc(func(spec orchestrator.Spec) (orchestrator.Runner, error) {
			runner = spec
			return hookRunner{}, nil
		})))
	if err != nil {
		t.Fatal(err)
	}
	defer undeploy(t, svc)
	cfg := pol.Serverless.Config()
	cfg.Provider.Endpoint = "https://user:" + canary + "@faas.example/?key=" + canary
	runner.Record = nil
	for _, value := range []any{svc, s, cfg, runner, struct{ S *serverless.Service }{svc}} {
		if text := everyForm(value); strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("a %T shows a secret: %s", value, text)
		}
	}
}

// everyForm is a value in every form in which it could be printed or stored.
func everyForm(value any) string {
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+"\n", value)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "value", value)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "value", value)
	if text, err := json.Marshal(value); err == nil {
		b.Write(text)
	}
	_ = gob.NewEncoder(&b).Encode(value) // a value that gob refuses shows nothing either
	return b.String()
}
