//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// answering is a handler for fakes that run no process. It answers probes and every job with its
// version.
func answering(i lambdatest.Invocation) lambdatest.Answer {
	if faas.IsWarmRequest(i.Payload) {
		return lambdatest.Answer{Payload: []byte(faas.WarmResponse), Init: 12 * time.Millisecond}
	}
	job, _, err := faas.ParseRequest(nil, i.Payload)
	if err != nil {
		return lambdatest.Answer{Payload: []byte(`{"errorType":"BadRequest"}`), FunctionError: "Unhandled"}
	}
	return lambdatest.Answer{Payload: faas.AppendResponse(
		nil, &faas.Response{JobID: job, Result: []byte(i.Version + i.Env["VALUE"]), Success: true})}
}

// unhandled is Lambda's answer for a function that failed.
func unhandled(kind, message string) lambdatest.Answer {
	return lambdatest.Answer{Payload: fmt.Appendf(nil, `{"errorMessage":%q,"errorType":%q}`, message, kind),
		FunctionError: "Unhandled"}
}

// crash is the answer for a function whose process has ended.
func crash() lambdatest.Answer {
	a := unhandled("Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: exit status 3")
	a.Log = "cannot find the moon\n"
	return a
}

// script returns a binary that speaks only stdin and stdout, and costs nothing to build. It
// contains the text.
func script(t testing.TB, text string) *faas.Binary {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := faas.InspectBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func small(job uint32) faas.Function {
	return faas.Function{JobID: job, MemoryMB: 256, TimeoutSecs: 30, Env: faas.NewEnv(map[string]string{"VALUE": "-one"})}
}

func unitOf(t testing.TB, e *Executor, bin *faas.Binary, f faas.Function) faas.Unit {
	t.Helper()
	units, err := e.Units(bin, []faas.Function{f})
	if err != nil {
		t.Fatal(err)
	}
	units[0].Package, err = faas.BuildPackage(t.Context(), t.TempDir(), units[0].Files)
	if err != nil {
		t.Fatal(err)
	}
	return units[0]
}

// deploy observes and converges, as an engine does.
func deploy(ctx context.Context, e *Executor, u faas.Unit) (faas.State, error) {
	prior, err := e.Observe(ctx, u.ID)
	switch {
	case err == nil:
		return e.Converge(ctx, u, &prior, nil)
	case faas.CodeOf(err) == faas.ErrNotFound:
		return e.Converge(ctx, u, nil, nil)
	}
	return faas.State{}, err
}

func mustDeploy(t testing.TB, e *Executor, u faas.Unit) faas.State {
	t.Helper()
	s, err := deploy(t.Context(), e, u)
	if err != nil {
		t.Fatalf("deploy %s: %v", u.ID, err)
	}
	if !s.Current(u) {
		t.Fatalf("deploy %s: the state is not what was wanted: %+v", u.ID, s)
	}
	return s
}

func answers(t testing.TB, e *Executor, job uint32, want string) {
	t.Helper()
	r, err := e.Invoke(t.Context(), job, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Output) != want {
		t.Fatalf("job %d answers %q, want %q", job, r.Output, want)
	}
}

func operations(calls []lambdatest.Call) []string {
	var names []string
	for _, c := range calls {
		names = append(names, c.Operation)
	}
	return names
}

func TestDeployCallsWhatItMust(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Pending: -1, Updating: -1})
	e := openAt(t, server, "calls", opening{})
	bin := script(t, "one")
	u := unitOf(t, e, bin, small(1))
	for _, step := range []struct {
		name string
		unit func() faas.Unit
		want []string
	}{
		{"a new function is created, published, probed and made live", func() faas.Unit { return u }, []string{
			"GetFunction", "CreateFunction", "GetFunction", "PublishVersion", "Invoke", "CreateAlias", "Invoke", "TagResource",
			"ListVersionsByFunction",
		}},
		{"an unchanged function costs reads of the function and of the alias", func() faas.Unit { return u },
			[]string{"GetFunction", "GetAlias", "GetFunction", "GetAlias"}},
		{"a change of the configuration uploads nothing", func() faas.Unit {
			f := small(1)
			f.MemoryMB = 512
			return unitOf(t, e, bin, f)
		}, []string{
			"GetFunction", "GetAlias", "GetFunction", "UpdateFunctionConfiguration", "GetFunction", "PublishVersion", "Invoke",
			"UpdateAlias", "TagResource", "ListVersionsByFunction",
		}},
		{"a change of the code changes no configuration", func() faas.Unit {
			f := small(1)
			f.MemoryMB = 512
			return unitOf(t, e, script(t, "two"), f)
		}, []string{
			"GetFunction", "GetAlias", "GetFunction", "UpdateFunctionCode", "GetFunction", "PublishVersion", "Invoke",
			"UpdateAlias", "TagResource", "ListVersionsByFunction",
		}},
	} {
		server.ForgetCalls()
		mustDeploy(t, e, step.unit())
		if diff := cmp.Diff(step.want, operations(server.Calls())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	s, err := e.Observe(t.Context(), u.ID)
	if err != nil || s.ColdStart != 12*time.Millisecond ||
		s.Resource != "arn:aws:lambda:us-east-1:123456789012:function:blueprint-calls-1" || s.DeployedAt.IsZero() {
		t.Errorf("state %+v, error %v", s, err)
	}
}

func TestSettingsArriveAndAreClearedAgain(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	full := map[string]string{
		"ephemeral_storage_mb": "1024", "log_format": "JSON", "tracing": "Active", "subnet_ids": "subnet-2, subnet-1",
		"security_group_ids": "sg-1",
		"layers":             "arn:aws:lambda:us-east-1:123456789012:layer:one:3",
		"kms_key_arn":        "arn:aws:kms:us-east-1:123456789012:key/1", "tags": "team=jobs,cost=a b",
		"architecture":  "arm64",
		"keep_versions": "2",
	}
	e := openAt(t, server, "settings", opening{options: full})
	f := small(0)
	f.MaxConcurrency, f.KeepWarm = 5, 2
	u := unitOf(t, e, script(t, "x"), f)
	mustDeploy(t, e, u)
	config := func(e *Executor) map[string]any {
		got, ok := server.Function(u.ID)
		if !ok {
			t.Fatal("the function does not exist")
		}
		picked := map[string]any{"Reserved": got.Reserved, "Provisioned": got.Provisioned["live"], "team": got.Tags["team"]}
		for _, name := range []string{"EphemeralStorage", "TracingConfig", "VpcConfig", "Layers", "KMSKeyArn", "Environment",
			"Architectures", "MemorySize", "Timeout", "Runtime", "Handler"} {
			picked[name] = got.Config[name]
		}
		return picked
	}
	five := 5
	want := map[string]any{
		"Reserved": &five, "Provisioned": 2, "team": "jobs", "EphemeralStorage": map[string]any{"Size": 1024.0},
		"TracingConfig": map[string]any{"Mode": "Active"},
		"VpcConfig": map[string]any{"SubnetIds": []any{"subnet-1", "subnet-2"}, "SecurityGroupIds": []any{"sg-1"},
			"VpcId": "vpc-0"},
		"Layers": []any{map[string]any{"Arn": full["layers"], "CodeSize": 1.0}}, "KMSKeyArn": full["kms_key_arn"],
		"Environment": map[string]any{"Variables": map[string]any{"VALUE": "-one"}}, "Architectures": []any{"arm64"},
		"MemorySize": 256.0, "Timeout": 30.0,
		"Runtime": "provided.al2023", "Handler": "bootstrap",
	}
	if diff := cmp.Diff(want, config(e)); diff != "" {
		t.Errorf("deployed (-want +got):\n%s", diff)
	}
	if s, err := e.Observe(t.Context(), u.ID); err != nil || !s.Current(u) {
		t.Errorf("Observe: %+v, %v", s, err)
	}

	bare := openAt(t, server, "settings", opening{options: map[string]string{"architecture": "x86_64"}})
	if s, err := bare.Observe(t.Context(), u.ID); err != nil || s.Fingerprint != "" {
		t.Errorf("other options pass for the same configuration: %+v, %v", s, err)
	}
	g := small(0)
	g.Env = nil
	mustDeploy(t, bare, unitOf(t, bare, script(t, "x"), g))
	want = map[string]any{
		"Reserved": (*int)(nil), "Provisioned": 0, "team": "jobs", "EphemeralStorage": map[string]any{"Size": 512.0},
		"TracingConfig": map[string]any{"Mode": "PassThrough"},
		"VpcConfig":     map[string]any{"SubnetIds": []any{}, "SecurityGroupIds": []any{}, "VpcId": ""}, "Layers": nil,
		"KMSKeyArn": nil, "Environment": nil,
		"Architectures": []any{"x86_64"}, "MemorySize": 256.0, "Timeout": 30.0, "Runtime": "provided.al2023",
		"Handler": "bootstrap",
	}
	if diff := cmp.Diff(want, config(bare)); diff != "" {
		t.Errorf("cleared (-want +got):\n%s", diff)
	}
}

func TestABadUpdateNeverGoesLive(t *testing.T) {
	t.Parallel()
	broken := func(i lambdatest.Invocation) lambdatest.Answer {
		if i.Env["VALUE"] == "-bad" {
			return crash()
		}
		return answering(i)
	}
	server := serve(t, lambdatest.Config{Handler: broken})
	e := openAt(t, server, "bad", opening{})
	bin := script(t, "x")
	good := unitOf(t, e, bin, small(7))
	prior := mustDeploy(t, e, good)
	f := small(7)
	f.Env = faas.NewEnv(map[string]string{"VALUE": "-bad"})
	_, err := deploy(t.Context(), e, unitOf(t, e, script(t, "bad"), f))
	var failed *faas.FunctionError
	if faas.CodeOf(err) != faas.ErrFunctionFailed || !errors.As(err, &failed) || failed.ExitCode != 3 ||
		!strings.Contains(failed.LogTail, "the moon") {
		t.Fatalf("a function that exits at its probe: %v", err)
	}
	answers(t, e, 7, "1-one")
	if now, err := e.Observe(t.Context(), good.ID); err != nil || now.Current(good) {
		t.Errorf("the state hides that an update was interrupted: %+v, %v", now, err)
	}
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	answers(t, e, 7, "1-one")
	now, err := e.Observe(t.Context(), good.ID)
	if err != nil || !now.Current(good) {
		t.Errorf("after Restore the state is %+v, %v", now, err)
	}
	if got, _ := server.Function(good.ID); got.Env["VALUE"] != "-one" || got.Aliases["live"] != "1" {
		t.Errorf("after Restore: %+v", got)
	}
}

func TestPruneKeepsTheVersionsThatAreNeeded(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Pending: -1, Updating: -1})
	e := openAt(t, server, "prune", opening{options: map[string]string{"keep_versions": "2"}})
	bin := script(t, "x")
	var id string
	for i := range 5 {
		f := small(0)
		f.MemoryMB += uint32(i)
		u := unitOf(t, e, bin, f)
		id = u.ID
		mustDeploy(t, e, u)
	}
	got, _ := server.Function(id)
	if diff := cmp.Diff([]int{4, 5}, got.Versions); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
}

func TestCreationThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		reasonCode string
		want       faas.Code
	}{
		{"SubnetOutOfIPAddresses", faas.ErrUnavailable}, {"KMSKeyAccessDenied", faas.ErrPermissionDenied},
		{"InvalidSubnet", faas.ErrInvalidArgument},
	} {
		server := serve(t, lambdatest.Config{Handler: answering, Pending: 30 * time.Millisecond})
		e := openAt(t, server, "failing", opening{})
		u := unitOf(t, e, script(t, "x"), small(0))
		_, err := e.Converge(t.Context(), u, nil, func(p faas.Progress) {
			if p.Bytes > 0 {
				server.Fail(u.ID, test.reasonCode, "because of the moon")
			}
		})
		if faas.CodeOf(err) != test.want || !strings.Contains(fmt.Sprint(err), "because of the moon") {
			t.Errorf("%s: %v", test.reasonCode, err)
		}
		s, oerr := e.Observe(t.Context(), u.ID)
		if oerr != nil || s.Status != faas.StatusFailed || !strings.Contains(s.Reason, "moon") {
			t.Errorf("%s: state %+v, %v", test.reasonCode, s, oerr)
		}
		mustDeploy(t, e, u) // a function that never lived is made anew
		answers(t, e, 0, "1-one")
	}
}

func TestAnUpdateThatFailsKeepsTheOldVersion(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "failing", opening{})
	bin := script(t, "x")
	first := unitOf(t, e, bin, small(0))
	mustDeploy(t, e, first)
	f := small(0)
	f.Env = faas.NewEnv(map[string]string{"VALUE": "-two"})
	u := unitOf(t, e, bin, f)
	server.Fail(u.ID, "InvalidSubnet", "because of the moon")
	_, err := deploy(t.Context(), e, u)
	if err == nil || !strings.Contains(err.Error(), "because of the moon") {
		t.Fatalf("got %v", err)
	}
	answers(t, e, 0, "1-one")
	if h, err := e.Health(t.Context(), 0); err != nil || !h.Healthy || !strings.Contains(h.Reason, "moon") {
		t.Errorf("health %+v, %v", h, err)
	}
	mustDeploy(t, e, u)
	answers(t, e, 0, "2-two")
}

func TestStaleReadsDoNoHarm(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, StaleReads: 3})
	e := openAt(t, server, "stale", opening{})
	bin := script(t, "x")
	mustConverge := func(u faas.Unit, prior *faas.State) faas.State {
		t.Helper()
		s, err := e.Converge(t.Context(), u, prior, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one := unitOf(t, e, bin, small(0))
	s := mustConverge(one, nil)
	answers(t, e, 0, "1-one")
	f := small(0)
	f.MemoryMB, f.Env = 300, faas.NewEnv(map[string]string{"VALUE": "-two"})
	mustConverge(unitOf(t, e, script(t, "y"), f), &s)
	answers(t, e, 0, "2-two")
	if err := e.Restore(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	answers(t, e, 0, "1-one")
	if err := e.Remove(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
}

func TestErrorsHideTheEnvironment(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-of-the-moon"
	server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "CreateFunction" {
			return &lambdatest.Fault{Status: 400, Code: "InvalidParameterValueException",
				Message: `String measured: {"KEY":"` + secret + `"}`}
		}
		return nil
	}})
	e := openAt(t, server, "secret", opening{})
	f := small(0)
	f.Env = faas.NewEnv(map[string]string{"KEY": secret})
	_, err := deploy(t.Context(), e, unitOf(t, e, script(t, "x"), f))
	if faas.CodeOf(err) != faas.ErrInvalidArgument || strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) ||
		!strings.Contains(err.Error(), "String measured") {
		t.Errorf("got %v", err)
	}
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidParameterValueException" {
		t.Errorf("the SDK's error is lost: %v", err)
	}
}

func TestRemoveTakesEverythingAlong(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Account: "210987654321"})
	e := openAt(t, server, "all", opening{options: map[string]string{
		"role_arn": "", "create_role": "true", "bucket": "packages", "remove_logs": "true", "tracing": "Active"}})
	e.direct = 100 // everything is too big for a call
	server.CreateBucket("packages")
	bin := script(t, "x")
	units := []faas.Unit{unitOf(t, e, bin, small(0)), unitOf(t, e, bin, small(1))}
	for _, u := range units {
		mustDeploy(t, e, u)
		answers(t, e, u.Functions[0].JobID, "1-one")
	}
	want := []string{
		"function blueprint-all-0", "function blueprint-all-1", "log group /aws/lambda/blueprint-all-0",
		"log group /aws/lambda/blueprint-all-1",
		"object packages/blueprint-serverless/blueprint-all-packages/" + units[0].Package.SHA256() + ".zip",
		"role blueprint-all-us-east-1",
	}
	if diff := cmp.Diff(want, server.Left()); diff != "" {
		t.Errorf("what exists (-want +got):\n%s", diff)
	}
	if n := len(server.Calls("PutObject")); n != 1 {
		t.Errorf("the package was uploaded %d times", n)
	}
	policy := server.Roles()["blueprint-all-us-east-1"]["blueprint-functions"]
	if want := `{"Statement":[{"Effect":"Allow",` +
		`"Action":["logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],` +
		`"Resource":"arn:aws:logs:us-east-1:210987654321:log-group:/aws/lambda/blueprint-all-*"},` +
		`{"Effect":"Allow","Action":["xray:PutTraceSegments","xray:PutTelemetryRecords"],"Resource":"*"}],` +
		`"Version":"2012-10-17"}`; policy != want {
		t.Errorf("policy %s", policy)
	}
	second := unitOf(t, e, script(t, "y"), small(0))
	mustDeploy(t, e, second)
	if left := server.Left(); slices.Contains(left, want[4]) ||
		!slices.Contains(left, "object packages/blueprint-serverless/blueprint-all-packages/"+second.Package.SHA256()+
			".zip") {
		t.Errorf("after an update there is %v", left)
	}
	if err := e.Remove(t.Context(), units[0].ID); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(server.Left(), want[5]) {
		t.Errorf("the role went with the first function of two: %v", server.Left())
	}
	if err := e.Remove(t.Context(), units[1].ID); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	if err := e.Remove(t.Context(), units[1].ID); err != nil {
		t.Error(err)
	}
}
