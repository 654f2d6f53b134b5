//go:build linux || darwin

package serverless_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// logged returns up to most lines of a service's log.
func logged(t testing.TB, svc *serverless.Service, q faas.LogQuery, most int) (got []string, failed error) {
	t.Helper()
	for line, err := range svc.Logs(t.Context(), q) {
		if err != nil {
			return got, err
		}
		if got = append(got, line.Text); len(got) == most {
			break
		}
	}
	return got, nil
}

// printing deploys a service with JobLog on FaaS and JobEcho beside it, in a runner that prints.
func printing(t testing.TB, opts ...serverless.DeployOption) *serverless.Service {
	t.Helper()
	s, _ := runnerSpec(t, runnerScript)
	jobs := []byte(strings.Repeat("f", int(faastest.Jobs)))
	jobs[faastest.JobEcho] = 's'
	cloud := faastest.NewMemory()
	svc, err := serverless.Deploy(t.Context(), s, append([]serverless.DeployOption{
		serverless.WithPolicy(policy(true, false)), serverless.WithMetadata(metadata(string(jobs))),
		serverless.WithExecutor(cloud.Executor(s.Name)), serverless.WithStateDir(t.TempDir()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Undeploy(context.Background()) })
	return svc
}

func TestLogsAreThoseOfFunctionsAndRunnerInTheOrderOfTime(t *testing.T) {
	svc := printing(t)
	var got []string
	await(t, "the runner has said all", func() bool {
		var err error
		if got, err = logged(t, svc, faas.LogQuery{}, -1); err != nil {
			t.Fatal(err)
		}
		return len(got) == 2
	})
	for _, text := range []string{"one", "two"} {
		if _, err := svc.Invoke(t.Context(), faastest.JobLog, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		q    faas.LogQuery
		want []string
	}{
		"all":          {faas.LogQuery{}, append(got, "one", "two")},
		"the last":     {faas.LogQuery{Limit: 3}, append(got[1:], "one", "two")},
		"a function's": {faas.LogQuery{JobIDs: []uint32{faastest.JobLog}}, []string{"one", "two"}},
		"the runner's": {faas.LogQuery{JobIDs: []uint32{faastest.JobEcho}}, got},
		"both":         {faas.LogQuery{JobIDs: []uint32{faastest.JobEcho, faastest.JobLog}, Limit: 1}, []string{"two"}},
	} {
		lines, err := logged(t, svc, tt.q, -1)
		if diff := cmp.Diff(tt.want, lines); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	var followed []string
	for line, err := range svc.Logs(t.Context(), faas.LogQuery{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if followed = append(followed, line.Text); line.Text == "two" {
			if _, err := svc.Invoke(t.Context(), faastest.JobLog, []byte("three")); err != nil {
				t.Fatal(err)
			}
		}
		if line.Text == "three" {
			break
		}
	}
	if diff := cmp.Diff(append(got, "one", "two", "three"), followed); diff != "" {
		t.Error(diff)
	}
	for name, tt := range map[string]struct {
		q    faas.LogQuery
		code faas.Code
	}{
		"a job that the service does not have": {faas.LogQuery{JobIDs: []uint32{77}}, faas.ErrNotFound},
		"a negative limit":                     {faas.LogQuery{Limit: -1}, faas.ErrInvalidArgument},
	} {
		if _, err := logged(t, svc, tt.q, -1); faas.CodeOf(err) != tt.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := logged(t, svc, faas.LogQuery{}, -1); !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("of a service that is gone: %v", err)
	}
}

// mute is an executor without logs.
type mute struct{ faas.Executor }

func (mute) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	return faas.Unimplemented{}.Logs(ctx, q)
}

func TestLogsThatNobodyKeepsAreUnsupported(t *testing.T) {
	s, _ := runnerSpec(t, runnerScript)
	state := t.TempDir()
	opts := []serverless.DeployOption{
		serverless.WithPolicy(policy(true, false)), serverless.WithMetadata(metadata("fs")),
		serverless.WithExecutor(mute{faastest.NewMemory().Executor(s.Name)}), serverless.WithStateDir(state),
		serverless.WithOrchestrator(otherRunner{}),
	}
	svc, err := serverless.Deploy(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = svc.Undeploy(context.Background()) }()
	for name, jobs := range map[string][]uint32{"all": nil, "on FaaS": {0}, "beside it": {1}} {
		_, err := logged(t, svc, faas.LogQuery{JobIDs: jobs}, -1)
		if faas.CodeOf(err) != faas.ErrUnsupported || name == "on FaaS" && !strings.Contains(err.Error(), faas.Custom) {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, err := serverless.OpenService(t.Context(), s.Name, serverless.WithStateDir(state),
		serverless.WithExecutor(faastest.NewMemory().Executor(s.Name)))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(context.Background())
	if _, err := logged(t, again, faas.LogQuery{JobIDs: []uint32{1}}, -1); faas.CodeOf(err) != faas.ErrUnsupported ||
		!strings.Contains(err.Error(), "deployed the service") {
		t.Errorf("of another program's runner: %v", err)
	}
}

// otherRunner is an orchestrator, and its own runner, that keeps no lines.
type otherRunner struct{}

func (r otherRunner) Start(context.Context, orchestrator.Spec) (orchestrator.Runner, error) {
	return r, nil
}
func (otherRunner) Invoke(context.Context, uint32, []byte) (*faas.Result, error) {
	return nil, errors.New("no")
}
func (otherRunner) Health(context.Context) (faas.Health, error) {
	return faas.Health{Healthy: true}, nil
}
func (otherRunner) Stop(context.Context) error { return nil }

func TestLinesOfADetachedRunnerAreReadFromItsFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	svc := printing(t, serverless.WithOrchestrator(&orchestrator.Local{Detached: true, LogDir: dir}))
	path := filepath.Join(dir, "svc.log")
	await(t, "the runner has said all", func() bool {
		return fileHas(path, "runs with run\n")() && fileHas(path, "and complains\n")()
	})
	if err := os.WriteFile(path+".1", []byte("long ago\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runner := faas.LogQuery{JobIDs: []uint32{faastest.JobEcho}}
	got, err := logged(t, svc, runner, -1)
	if len(got) != 3 || got[0] != "long ago" || err != nil {
		t.Errorf("%v %q", err, got)
	}
	runner.Follow, runner.Limit = true, 1
	followed := 0
	for line, err := range svc.Logs(t.Context(), runner) {
		if err != nil {
			t.Fatal(err)
		}
		if followed++; followed == 1 {
			if err := os.Rename(path, path+".2"); err != nil { // as a rotation does
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("in the next\x1b file\nnot ended"), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if line.Text != `in the next\x1b file` || line.Time.IsZero() || line.JobID != faas.NoJob {
			t.Errorf("%+v", line)
		}
		break
	}
}
