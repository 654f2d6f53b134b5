//go:build !faas_only || faas_aws

package aws

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// Every change by somebody else is noticed, reported and undone.
func TestEveryForeignChangeIsSeenAndUndone(t *testing.T) {
	t.Parallel()
	configure := func(change func(*lambda.UpdateFunctionConfigurationInput)) func(
		*testing.T, *Executor, *lambdatest.Server, faas.Unit) {
		return func(t *testing.T, e *Executor, _ *lambdatest.Server, u faas.Unit) {
			in := &lambda.UpdateFunctionConfigurationInput{FunctionName: &u.ID}
			change(in)
			if _, err := e.lambda.UpdateFunctionConfiguration(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*testing.T, *Executor, *lambdatest.Server, faas.Unit)
		health string // why the function is not healthy; empty if it is, since calls go to the live version
	}{
		{"runtime", configure(func(in *lambda.UpdateFunctionConfigurationInput) { in.Runtime = types.RuntimeProvidedal2 }),
			""},
		{"handler", configure(func(in *lambda.UpdateFunctionConfigurationInput) { in.Handler = aws.String("moon") }), ""},
		{"description", configure(func(in *lambda.UpdateFunctionConfigurationInput) { in.Description = aws.String("moon") }),
			""},
		{"memory", configure(func(in *lambda.UpdateFunctionConfigurationInput) { in.MemorySize = aws.Int32(999) }), ""},
		{"architecture", func(t *testing.T, e *Executor, _ *lambdatest.Server, u faas.Unit) {
			zip, err := readPackage(u.Package)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.lambda.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{
				FunctionName: &u.ID, ZipFile: zip, Architectures: []types.Architecture{types.ArchitectureArm64},
			}); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"reserved concurrency", func(_ *testing.T, _ *Executor, s *lambdatest.Server, u faas.Unit) {
			s.SetReserved(u.ID, 7)
		}, ""},
		{"switched off", func(_ *testing.T, _ *Executor, s *lambdatest.Server, u faas.Unit) { s.SetReserved(u.ID, 0) },
			"reserved concurrency"},
		{"alias moved", func(_ *testing.T, _ *Executor, s *lambdatest.Server, u faas.Unit) {
			s.MoveAlias(u.ID, "live", "1")
		}, "version 1"},
		{"alias deleted", func(_ *testing.T, _ *Executor, s *lambdatest.Server, u faas.Unit) {
			s.MoveAlias(u.ID, "live", "")
		}, "alias"},
		{"alias split", func(t *testing.T, e *Executor, _ *lambdatest.Server, u faas.Unit) {
			if _, err := e.lambda.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{
				FunctionName: &u.ID, Name: aws.String("live"),
				RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"1": 0.3}},
			}); err != nil {
				t.Fatal(err)
			}
		}, "version 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, lambdatest.Config{Handler: answering})
			e := openAt(t, server, "drift", opening{options: map[string]string{"architecture": "x86_64"}})
			bin := script(t, "x")
			mustDeploy(t, e, unitOf(t, e, bin, valued("-zero", 0, 0)))
			u := unitOf(t, e, bin, valued("-one", 0, 0))
			prior := mustDeploy(t, e, u)
			before, _ := server.Function(u.ID)

			test.change(t, e, server, u)
			if _, err := e.settled(t.Context(), "test", 0, u.ID, "", nil); err != nil {
				t.Fatal(err)
			}
			if s, err := e.Observe(t.Context(), u.ID); err != nil || s.Current(u) {
				t.Errorf("the change is not seen: %+v, %v", s, err)
			}
			if h, err := e.Health(t.Context(), 0); err != nil || h.Healthy != (test.health == "") ||
				!strings.Contains(h.Reason, test.health) {
				t.Errorf("health is %+v, %v", h, err)
			}
			if _, err := e.Converge(t.Context(), u, &prior, nil); err != nil {
				t.Fatal(err)
			}
			if s, err := e.Observe(t.Context(), u.ID); err != nil || !s.Current(u) {
				t.Errorf("the change is not undone: %+v, %v", s, err)
			}
			if h, err := e.Health(t.Context(), 0); err != nil || !h.Healthy {
				t.Errorf("health is %+v, %v", h, err)
			}
			r, err := e.Invoke(t.Context(), 0, nil)
			if err != nil || !strings.HasSuffix(string(r.Output), "-one") {
				t.Errorf("answers %v, %v", r, err)
			}
			after, _ := server.Function(u.ID)
			same := cmp.Options{
				cmpopts.IgnoreFields(lambdatest.State{}, "Versions", "Aliases", "Tags"),
				cmpopts.IgnoreMapEntries(func(name string, _ any) bool { return name == "RevisionId" || name == "LastModified" }),
			}
			if diff := cmp.Diff(before, after, same); diff != "" {
				t.Errorf("it is not as it was (-before +after):\n%s", diff)
			}
		})
	}
}
