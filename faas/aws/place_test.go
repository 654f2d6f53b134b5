//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

func TestAnotherAccountIsNotTakenForThePlace(t *testing.T) {
	t.Parallel()
	here := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, here, "place", opening{})
	recorded := mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
	if err := e.CheckPlace(t.Context(), recorded); err != nil {
		t.Errorf("in the account itself: %v", err)
	}
	for range 3 {
		if err := e.CheckPlace(t.Context(), recorded); err != nil {
			t.Error(err)
		}
	}
	if n := len(here.Calls("GetCallerIdentity")); n != 1 {
		t.Errorf("the account was asked for %d times", n)
	}

	there := serve(t, lambdatest.Config{Handler: answering, Account: "210987654321"})
	other := openAt(t, there, "place", opening{})
	err := other.CheckPlace(t.Context(), recorded)
	if faas.CodeOf(err) != faas.ErrConflict || !strings.Contains(err.Error(), "123456789012") ||
		!strings.Contains(err.Error(), "210987654321") || !strings.Contains(err.Error(), "profile") {
		t.Errorf("in another account: %v", err)
	}
	elsewhere := recorded
	elsewhere.Resource = strings.Replace(recorded.Resource, "us-east-1", "eu-west-1", 1)
	if err := e.CheckPlace(t.Context(), elsewhere); faas.CodeOf(err) != faas.ErrConflict ||
		!strings.Contains(err.Error(), "eu-west-1") {
		t.Errorf("in another region: %v", err)
	}
	elsewhere.Resource = strings.Replace(recorded.Resource, "arn:aws:", "arn:aws-cn:", 1)
	if err := e.CheckPlace(t.Context(), elsewhere); faas.CodeOf(err) != faas.ErrConflict {
		t.Errorf("in another partition: %v", err)
	}
	for _, unknown := range []string{"", "x", "arn:aws:s3:::bucket"} {
		if err := e.CheckPlace(t.Context(), faas.State{Resource: unknown}); err != nil {
			t.Errorf("recorded is %q: %v", unknown, err)
		}
	}
}

func TestAnAccountThatCannotBeToldIsNoError(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "GetCallerIdentity" {
			return &lambdatest.Fault{Status: 403, Code: "AccessDenied", Message: "not today"}
		}
		return nil
	}})
	e := openAt(t, server, "untold", opening{})
	recorded := faas.State{Resource: "arn:aws:lambda:us-east-1:999999999999:function:blueprint-untold-0"}
	if err := e.CheckPlace(t.Context(), recorded); err != nil {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.CheckPlace(ctx, recorded); err != nil {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// An executor that has only the non-secret options, as a runner's has, reaches what was deployed.
func TestTheOptionsThatAreNoSecretsLeadToTheFunction(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	given := map[string]string{"alias": "green", "architecture": "arm64", "keep_versions": "5"}
	e := openAt(t, server, "options", opening{options: given})
	mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
	recorded := map[string]string{}
	for _, o := range declare(new(options), new(string)).Table() {
		if value, ok := given[o.Name]; ok && !o.Sensitive {
			recorded[o.Name] = value
		}
	}
	answers(t, openAt(t, server, "options", opening{options: recorded}), 0, "1-one")
}

// An executor prints no credentials with any verb.
func TestAnExecutorPrintsNoCredentials(t *testing.T) {
	server := serve(t, lambdatest.Config{Handler: answering})
	setenv(t, server)
	e, err := New(t.Context(), faas.Config{Service: "printed"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	secret := server.Environment()["AWS_SECRET_ACCESS_KEY"]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if strings.Contains(fmt.Sprintf(verb, e), secret) {
			t.Errorf("%s shows the secret key", verb)
		}
	}
}
