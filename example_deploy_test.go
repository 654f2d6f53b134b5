//go:build unix

package serverless_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	_ "github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// workplace is what the examples of deployments need: a platform behind HTTP, an operator's policy
// that names it, and a blueprint's binary.
type workplace struct {
	dir, policy, binary, state string
	close                      func()
}

// exampleBinary is a blueprint of two jobs. Both answer their arguments, and job 1 fails if they
// are "no".
const exampleBinary = `#!/bin/sh
read -r request
case "$request" in
*'"job_id":1,"args":[110,111]'*) echo '{"success":false,"error":"job 1 does not like it"}' ;;
*) echo "$request" | sed 's/.*"args":\(\[[^]]*\]\).*/{"result":\1}/' ;;
esac
`

func newWorkplace() *workplace {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	p, err := platform.New()
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(p)
	w := &workplace{dir: dir, policy: filepath.Join(dir, "deployment-policy.json"),
		binary: filepath.Join(dir, "target", "release", "my-blueprint"), state: filepath.Join(dir, "state")}
	w.close = func() {
		server.Close()
		_ = p.Close()
		_ = os.RemoveAll(dir)
	}
	write := func(path, text string, mode os.FileMode) {
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), mode)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	write(w.policy, fmt.Sprintf(`{"serverless": {
		"enable": true, "provider": {"type": "custom", "endpoint": %q}, "fallback_to_vm": false}}`, server.URL), 0o600)
	write(w.binary, exampleBinary, 0o755)
	write(serverless.ProfilesPath(w.binary), `{
		"blueprint_name":"my-blueprint","profiled_at":"2026-11-25T00:00:00Z","jobs":{
		"0":{"avg_duration_ms":20,"p95_duration_ms":30,"p99_duration_ms":40,"peak_memory_mb":40,
			"stateful":false,"persistent_connections":false,"sample_size":10},
		"1":{"avg_duration_ms":20,"p95_duration_ms":30,"p99_duration_ms":40,"peak_memory_mb":40,
			"stateful":false,"persistent_connections":false,"sample_size":10}}}`, 0o644)
	return w
}

// step by step is what Deploy does in one call.
func stepByStep(ctx context.Context, w *workplace) error {
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(w.policy))
	if err != nil {
		return err // names the file, the line, the column and the field
	}

	metadata, err := serverless.FetchMetadata(ctx, 42, serverless.WithMock(), serverless.WithBinary(w.binary))
	if err != nil {
		return err
	}

	analysis, err := serverless.AnalyzeFor(metadata, policy.Serverless.Provider.Type, policy.Serverless.Enable)
	if err != nil {
		return err
	}
	fmt.Println(analysis.Strategy.Kind, analysis.Strategy.FaaSJobs)

	spec := serverless.ServiceSpec{Name: "my-service", BlueprintID: 42, BinaryPath: w.binary,
		Env: map[string]string{"GREETING": "hello"}}
	opts := []serverless.DeployOption{
		serverless.WithPolicy(policy), serverless.WithMetadata(metadata), serverless.WithStateDir(w.state),
		serverless.WithoutRunner(),
	}
	plan, err := serverless.NewPlan(ctx, spec, opts...)
	if err != nil {
		return err
	}
	for _, change := range plan.Changes {
		fmt.Println(change.Action, change.Unit)
	}

	service, err := plan.Apply(ctx, spec, opts...) // or, without a plan: serverless.Deploy(ctx, spec, opts...)
	if err != nil {
		return err
	}
	defer service.Close(context.WithoutCancel(ctx)) // frees connections; the functions stay

	result, err := service.Invoke(ctx, 0, []byte("hello"))
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", result.Output)

	return service.Undeploy(ctx)
}

// The steps of Deploy, one by one.
func Example_stepByStep() {
	w := newWorkplace()
	defer w.close()
	if err := stepByStep(context.Background(), w); err != nil {
		fmt.Println(err)
	}
	// Output:
	// serverless [0 1]
	// create my-service-job0
	// create my-service-job1
	// hello
}

func ExampleNewPlan() {
	w := newWorkplace()
	defer w.close()
	ctx := context.Background()
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(w.policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	spec := serverless.ServiceSpec{Name: "my-service", BinaryPath: w.binary}
	opts := []serverless.DeployOption{serverless.WithPolicy(policy), serverless.WithStateDir(w.state),
		serverless.WithoutRunner()}
	plan, err := serverless.NewPlan(ctx, spec, opts...)
	if err != nil {
		fmt.Println(err)
		return
	}
	service, err := plan.Apply(ctx, spec, opts...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Undeploy(ctx)
	_, err = plan.Apply(ctx, spec, opts...) // what the plan creates exists now
	fmt.Println(len(plan.Changes), "changes; again:", faas.CodeOf(err))
	// Output: 2 changes; again: conflict
}

// The one call that an embedding program makes, with its own machines for jobs that are not on
// FaaS, and a log.
func ExampleDeploy() {
	w := newWorkplace()
	defer w.close()
	ctx := context.Background()
	// the operator's own file needs no WithPolicy
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(w.policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	logger := slog.New(slog.DiscardHandler)

	service, err := serverless.Deploy(ctx, serverless.ServiceSpec{
		Name: "my-service", BlueprintID: 42, BinaryPath: w.binary},
		serverless.WithPolicy(policy),
		serverless.WithStateDir(w.state),
		serverless.WithoutRunner(),
		serverless.WithTraditional(func(ctx context.Context, spec serverless.ServiceSpec, jobIDs []uint32,
			sizing serverless.Sizing) (orchestrator.Runner, error) {
			return nil, fmt.Errorf("no machine of %d MiB is free", sizing.MemoryMB) // the manager's own way: a machine, a pod
		}),
		serverless.WithLogger(logger),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Undeploy(context.WithoutCancel(ctx))
	for _, d := range service.Deployments() {
		fmt.Println(d.JobID, d.Action, d.FunctionID)
	}
	// Output:
	// 0 create my-service-job0
	// 1 create my-service-job1
}

// A program that decides itself which jobs run where.
func ExampleDeployServerless() {
	w := newWorkplace()
	defer w.close()
	ctx := context.Background()
	p, err := platform.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	cfg := serverless.ServerlessConfig{Provider: faas.Config{Provider: faas.Custom}, DefaultMemoryMB: 128,
		DefaultTimeoutSecs: 10}
	service, err := serverless.DeployServerless(ctx, serverless.ServiceSpec{Name: "squares", BinaryPath: w.binary},
		[]uint32{1}, cfg,
		serverless.WithExecutor(p.Executor("squares")), serverless.WithStateDir(w.state), serverless.WithoutRunner())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Undeploy(ctx)
	result, err := service.Invoke(ctx, 1, []byte("without HTTP"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", result.Output)
	// Output: without HTTP
}

// The program's own function runs the jobs that do not run on FaaS.
func ExampleWithTraditional() {
	w := newWorkplace()
	defer w.close()
	ctx := context.Background()
	service, err := serverless.Deploy(ctx, serverless.ServiceSpec{Name: "my-service", BinaryPath: w.binary},
		serverless.WithPolicy(serverless.DefaultPolicy()), // serverless is off
		serverless.WithStateDir(w.state),
		serverless.WithTraditional(func(_ context.Context, spec serverless.ServiceSpec, jobIDs []uint32,
			sizing serverless.Sizing) (orchestrator.Runner, error) {
			fmt.Printf("jobs %v of %s on a machine of %d MiB and %d core\n", jobIDs, spec.Name, sizing.MemoryMB, sizing.CPUCores)
			return machine{}, nil
		}))
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := service.Invoke(ctx, 1, []byte("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", result.Output)
	fmt.Println(service.Undeploy(ctx))
	// Output:
	// jobs [0 1] of my-service on a machine of 512 MiB and 1 core
	// job 1 on the machine
	// the machine is gone
	// <nil>
}

// machine is what an embedding program returns from its TraditionalFunc.
type machine struct{}

func (machine) Invoke(_ context.Context, jobID uint32, _ []byte) (*faas.Result, error) {
	return &faas.Result{Output: fmt.Appendf(nil, "job %d on the machine", jobID)}, nil
}

func (machine) Health(context.Context) (faas.Health, error) { return faas.Health{Healthy: true}, nil }

func (machine) Stop(context.Context) error {
	fmt.Println("the machine is gone")
	return nil
}

// Events are enough to display progress. Packages report and otelfaas have functions for
// WithEvents.
func ExampleWithEvents() {
	w := newWorkplace()
	defer w.close()
	ctx := context.Background()
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(w.policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	done := 0
	show := func(e serverless.Event) { // called with one event at a time
		if e.Kind == serverless.EventEnded && e.Phase == serverless.PhaseFunction && e.Err == nil {
			done++
		}
	}
	service, err := serverless.Deploy(ctx, serverless.ServiceSpec{Name: "my-service", BinaryPath: w.binary},
		serverless.WithPolicy(policy), serverless.WithStateDir(w.state), serverless.WithoutRunner(),
		serverless.WithEvents(show))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Undeploy(ctx)
	fmt.Println(done, "functions were created")
	// Output: 2 functions were created
}

// The code of an error says what to do about it.
func ExampleService_Invoke() {
	w := newWorkplace()
	defer w.close()
	ctx := context.Background()
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(w.policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	service, err := serverless.Deploy(ctx, serverless.ServiceSpec{Name: "my-service", BinaryPath: w.binary},
		serverless.WithPolicy(policy), serverless.WithStateDir(w.state), serverless.WithoutRunner())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Undeploy(ctx)

	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err = service.Invoke(ctx, 1, []byte("no"))
	var failed *faas.Error
	var function *faas.FunctionError
	switch {
	case errors.As(err, &function):
		fmt.Println("the job ran, and failed:", function.Message)
	case errors.As(err, &failed) && failed.NotRun:
		fmt.Println("the job did not run, so that the call can be repeated:", err)
	case errors.Is(err, faas.ErrTimeout):
		fmt.Println("the job may have run:", err)
	case err != nil:
		fmt.Println(err)
	}
	// Output: the job ran, and failed: job 1 does not like it
}

// After a restart a program finds what it deployed.
func ExampleOpenService() {
	w := newWorkplace()
	defer w.close()
	ctx := context.Background()
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(w.policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	before, err := serverless.Deploy(ctx, serverless.ServiceSpec{Name: "my-service", BinaryPath: w.binary},
		serverless.WithPolicy(policy), serverless.WithStateDir(w.state), serverless.WithoutRunner())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := before.Close(ctx); err != nil { // as if the program had ended
		fmt.Println(err)
		return
	}

	services, err := serverless.ListServices(w.state)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, info := range services {
		if info.Interrupted() {
			if _, err := serverless.Recover(ctx, info.Name, serverless.WithStateDir(w.state),
				serverless.WithPolicy(policy)); err != nil {
				fmt.Println(err)
				return
			}
		}
		service, err := serverless.OpenService(ctx, info.Name, serverless.WithStateDir(w.state),
			serverless.WithPolicy(policy))
		if err != nil {
			fmt.Println(err)
			return
		}
		drift, err := service.Diff(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(service.Name(), "is as it was deployed:", drift.None())
		if err := service.Undeploy(ctx); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output: my-service is as it was deployed: true
}

// The state directory has what is known of services.
func ExampleListServices() {
	dir, err := os.MkdirTemp("", "state-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	services, err := serverless.ListServices(dir)
	fmt.Println(len(services), err)
	// Output: 0 <nil>
}

func ExampleRecover() {
	dir, err := os.MkdirTemp("", "state-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	done, err := serverless.Recover(context.Background(), "my-service", serverless.WithStateDir(dir))
	switch {
	case errors.Is(err, faas.ErrNotFound):
		fmt.Println("nothing was ever deployed from this directory")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println("removed", done.Removed, "and left to the next deployment", done.Unsettled)
	}
	// Output: nothing was ever deployed from this directory
}
