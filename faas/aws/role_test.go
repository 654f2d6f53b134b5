//go:build !faas_only || faas_aws

package aws

import (
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// deleteRole deletes a role of the service as somebody would by hand.
func deleteRole(t *testing.T, e *Executor, name string) {
	t.Helper()
	for _, policy := range []string{rolePolicyName} {
		if _, err := e.iam.DeleteRolePolicy(t.Context(),
			&iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &policy}); err != nil && !isNotFound(err) {
			t.Fatal(err)
		}
	}
	if _, err := e.iam.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: &name}); err != nil {
		t.Fatal(err)
	}
}

func TestARoleThatWasMadeAgainIsSetAnew(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		created bool // for the service, by the option create_role
		again   bool // made again by somebody
		fresh   bool // another program deploys
	}{
		"a given role, known by a call": {},
		"a created role":                {created: true, again: true, fresh: true},
		"a created role that is gone":   {created: true, fresh: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, lambdatest.Config{Handler: answering})
			options, role := map[string]string{"role_arn": server.CreateRole("given", trustPolicy)}, "given"
			if tt.created {
				options = map[string]string{"role_arn": "", "create_role": "true"}
			}
			e := openAt(t, server, "anew", opening{options: options})
			if tt.created {
				role = e.roleName()
			}
			u := unitOf(t, e, script(t, "x"), small(0))
			mustDeploy(t, e, u)
			answers(t, e, 0, "1-one")
			deleteRole(t, e, role)
			if !tt.created {
				server.CreateRole(role, trustPolicy)
			}
			if tt.again {
				in := &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: awssdk.String(trustPolicy),
					Tags: iamTags(e.ownerTags())}
				if _, err := e.iam.CreateRole(t.Context(), in); err != nil {
					t.Fatal(err)
				}
			}
			if tt.fresh {
				e = openAt(t, server, "anew", opening{options: options})
			} else if _, err := e.Invoke(t.Context(), 0, nil); faas.CodeOf(err) != faas.ErrPermissionDenied ||
				!strings.Contains(err.Error(), "deploy again, which sets the role anew") {
				t.Errorf("an invocation: %v", err)
			}
			s, err := e.Observe(t.Context(), u.ID)
			if err != nil || s.Current(u) || !strings.Contains(s.Reason, "deploy again") {
				t.Errorf("observed %+v, %v", s, err)
			}
			if h, err := e.Health(t.Context(), 0); err != nil || h.Healthy {
				t.Errorf("health %+v, %v", h, err)
			}
			mustDeploy(t, e, u)
			got, _ := server.Function(u.ID)
			answers(t, e, 0, got.Aliases["live"]+"-one")
			if s, err := e.Observe(t.Context(), u.ID); err != nil || !s.Current(u) {
				t.Errorf("afterwards %+v, %v", s, err)
			}
			server.ForgetCalls()
			mustDeploy(t, e, u)
			if n := len(server.Calls("UpdateFunctionConfiguration", "PublishVersion")); n != 0 {
				t.Errorf("what is as it should be was changed %d times", n)
			}
		})
	}
}

func TestABoundaryThatIsNamedLaterIsSet(t *testing.T) {
	t.Parallel()
	const boundary = "arn:aws:iam::123456789012:policy/bound"
	server := serve(t, lambdatest.Config{Handler: answering})
	options := map[string]string{"role_arn": "", "create_role": "true"}
	u := unitOf(t, openAt(t, server, "bound", opening{options: options}), script(t, "x"), small(0))
	mustDeploy(t, openAt(t, server, "bound", opening{options: options}), u)
	options["role_permissions_boundary"] = boundary
	for range 2 {
		e := openAt(t, server, "bound", opening{options: options})
		mustDeploy(t, e, u)
		if got := server.Boundary(e.roleName()); got != boundary {
			t.Errorf("the role is bounded by %q", got)
		}
	}
	if n := len(server.Calls("PutRolePermissionsBoundary")); n != 1 {
		t.Errorf("it was set %d times", n)
	}
}

func TestAStartBeforeTheCallIsNotTheCalls(t *testing.T) {
	t.Parallel()
	reported := faas.Metrics{Init: 3 * time.Second, ColdStart: true, Execution: time.Millisecond}
	if got := ofCall(reported, time.Second); got.ColdStart || got.Init != 0 || got.Total != time.Second ||
		got.Execution != reported.Execution {
		t.Errorf("a start that took longer than the call: %+v", got)
	}
	if got := ofCall(reported, 4*time.Second); !got.ColdStart || got.Init != reported.Init {
		t.Errorf("a cold start: %+v", got)
	}
}
