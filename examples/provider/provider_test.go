package provider

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	open := func(t testing.TB, service string) faas.Executor {
		exec, err := faas.Open(t.Context(), faas.Config{
			Provider: Name, Service: service, Options: map[string]string{"dir": dir}})
		if err != nil {
			t.Fatal(err)
		}
		return exec
	}
	faastest.Run(t, faastest.Harness{
		Open: open, Provider: Name,
		Limits: limits, MemorySizes: sizes,
		OpenLossy: func(t testing.TB, service string) faas.Executor {
			return faastest.Faulty(open(t, service), faastest.Faults(
				faastest.Rule{Op: faastest.OpInvoke, Fault: faastest.Fault{Kind: faastest.LostAnswer}}))
		},
	})
}

func TestWeather(t *testing.T) {
	dir := t.TempDir()
	open := func(t testing.TB, service string) faas.Executor {
		exec, err := faas.Open(t.Context(), faas.Config{
			Provider: Name, Service: service, Options: map[string]string{"dir": dir}})
		if err != nil {
			t.Fatal(err)
		}
		return exec
	}
	faastest.Weather(t, faastest.Harness{
		Open: open, Provider: Name, Limits: limits, MemorySizes: sizes,
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			return sky.Executor(open(t, service))
		},
	}, 3)
}

// An operator's policy may name the provider, once a program imports it.
func TestAPolicyNamesTheProvider(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "deployment-policy.json")
	text := `{"serverless": {"enable": true, "provider": {"type": "folder"}, "provider_config": {"dir": "` +
		filepath.Join(dir, "functions") + `"}, "fallback_to_vm": false}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(file))
	if err != nil {
		t.Fatal(err)
	}
	profiled := &serverless.JobProfile{AvgDurationMS: 10, P95DurationMS: 10, PeakMemoryMB: 10}
	service, err := serverless.Deploy(t.Context(), serverless.ServiceSpec{Name: "mine", BinaryPath: faastest.JobBinary(t)},
		serverless.WithPolicy(policy), serverless.WithStateDir(filepath.Join(dir, "state")), serverless.WithoutRunner(),
		serverless.WithMetadata(&serverless.Metadata{
			Source: serverless.SourceChain, Jobs: []serverless.Job{{ID: faastest.JobEcho, Profile: profiled}}}))
	if err != nil {
		t.Fatal(err)
	}
	result, err := service.Invoke(t.Context(), faastest.JobEcho, []byte("hello"))
	if err != nil || string(result.Output) != "hello" {
		t.Errorf("answered %v, %v", result, err)
	}
	if err := service.Undeploy(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "functions")); err != nil || len(left) != 0 {
		t.Errorf("%d functions are left, %v", len(left), err)
	}
}
