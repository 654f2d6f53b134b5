//go:build !faas_only || faas_aws

package aws

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

func TestForeignChangesAreSeenAndUndone(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "drift", opening{})
	u := unitOf(t, e, script(t, "x"), small(0))
	mustDeploy(t, e, u)
	other := openAt(t, server, "drift", opening{})
	f := small(0)
	f.MemoryMB = 1024
	if _, err := other.lambda.UpdateFunctionConfiguration(
		t.Context(), other.wantedSettings(f, server.RoleARN()).changes(u.ID, mustGet(t, e, u.ID))); err != nil {
		t.Fatal(err)
	}
	if _, err := e.settled(t.Context(), "test", 0, u.ID, "", nil); err != nil {
		t.Fatal(err)
	}
	if s, err := e.Observe(t.Context(), u.ID); err != nil || s.Current(u) || s.Status != faas.StatusReady {
		t.Errorf("a change by somebody else is not seen: %+v, %v", s, err)
	}
	mustDeploy(t, e, u)
	if got, _ := server.Function(u.ID); got.MemorySize != 256 {
		t.Errorf("memory is %d", got.MemorySize)
	}
}

func TestAFunctionOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "mine", opening{})
	u := unitOf(t, e, script(t, "x"), small(0))
	in := e.wantedSettings(small(0), server.RoleARN()).creation(u.ID, "x86_64")
	zip, err := readPackage(u.Package)
	if err != nil {
		t.Fatal(err)
	}
	in.Code = codeOfZip(zip)
	if _, err := e.lambda.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := e.settled(t.Context(), "test", 0, u.ID, "", nil); err != nil {
		t.Fatal(err)
	}
	before, _ := server.Function(u.ID)
	_, err = e.Observe(t.Context(), u.ID)
	_, cerr := e.Converge(t.Context(), u, nil, nil)
	_, herr := e.Health(t.Context(), 0)
	for name, err := range map[string]error{"Observe": err, "Converge": cerr, "Health": herr,
		"Remove": e.Remove(t.Context(), u.ID), "Restore": e.Restore(
			t.Context(), faas.State{ID: u.ID, Private: private{Version: "1"}.encode()})} {
		if faas.CodeOf(err) != faas.ErrConflict || !strings.Contains(fmt.Sprint(err), u.ID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if states, err := e.List(t.Context()); err != nil || len(states) != 0 {
		t.Errorf("List: %v, %v", states, err)
	}
	after, _ := server.Function(u.ID)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("it was changed:\n%s", diff)
	}
}

func mustGet(t testing.TB, e *Executor, name string) *types.FunctionConfiguration {
	t.Helper()
	out, err := e.get(t.Context(), name, "")
	if err != nil {
		t.Fatal(err)
	}
	return out.Configuration
}

func codeOfZip(zip []byte) *types.FunctionCode { return &types.FunctionCode{ZipFile: zip} }
