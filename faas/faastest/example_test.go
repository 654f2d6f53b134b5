package faastest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// Tests of code that deploys and invokes need no platform.
func ExampleNewMemory() {
	cloud := faastest.NewMemory(faastest.WithJob(func(_ context.Context, f faas.Function, args []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%s, %s", f.Env["GREETING"], args), nil
	}))
	exec := cloud.Executor("my-service")
	units, err := exec.Units(&faas.Binary{Path: "/bin/sh"}, []faas.Function{
		{JobID: 0, MemoryMB: 128, TimeoutSecs: 30, Env: faas.NewEnv(map[string]string{"GREETING": "hello"})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(units[0].ID, cloud.Units())
	_, err = exec.Invoke(context.Background(), 0, []byte("world"))
	fmt.Println(faas.CodeOf(err))
	// Output:
	// my-service/job0 []
	// not found
}

// This is the test of a provider, here the reference provider. It only needs a binary with the
// jobs that the suite runs.
func ExampleRun() {
	cloud := faastest.NewMemory()
	_ = func(t *testing.T) { // as TestConformance
		faastest.Run(t, faastest.Harness{
			Open:        func(_ testing.TB, service string) faas.Executor { return cloud.Executor(service) },
			Provider:    faastest.MemoryProvider,
			Limits:      cloud.Info().Limits,
			MemorySizes: cloud.Info().MemorySizes,
			Simulated:   true,
		})
	}
}

// The second attempt to deploy succeeds, as with a provider that throttles.
func ExampleFaulty() {
	exec := faastest.Faulty(faastest.NewMemory().Executor("my-service"), faastest.Faults(
		faastest.Rule{Op: faastest.OpRemove, Times: 1, Fault: faastest.Fault{Kind: faastest.Throttled}},
	))
	for range 2 {
		fmt.Println(exec.Remove(context.Background(), "my-service/job0"))
	}
	// Output:
	// faas: remove: faulty: injected fault: throttled
	// <nil>
}
