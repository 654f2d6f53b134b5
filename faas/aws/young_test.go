//go:build !faas_only || faas_aws

package aws

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// However often Lambda refuses a role that is too new, a big package is sent only once the role is
// known.
func TestABigPackageIsNotSentWhileARoleIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "CreateFunction" && c.N <= 5 {
			return &lambdatest.Fault{Status: 400, Code: codeInvalid,
				Message: "The role defined for the function cannot be assumed by Lambda."}
		}
		return nil
	}})
	var sent atomic.Int64
	counted := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		sent.Add(max(r.ContentLength, 0))
		return http.DefaultTransport.RoundTrip(r)
	})}
	e := openAt(t, server, "big", opening{client: counted})
	u := unitOf(t, e, script(t, "x"), small(0))
	u.Package = noise(t, 1_000_000)
	s := mustDeploy(t, e, u)
	if !s.Current(u) {
		t.Errorf("got %+v", s)
	}
	answers(t, e, 0, "1-one")
	if most := 2*u.Package.Size()*4/3 + 100_000; sent.Load() > most || len(server.Calls("CreateFunction")) != 6 {
		t.Errorf("%d bytes were sent for a package of %d, with %d creations", sent.Load(), u.Package.Size(),
			len(server.Calls("CreateFunction")))
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// IAM, Lambda, and the keys and networks that Lambda asks learn one after the other of a role that
// was created for the deployment. What was made too early fails later.
func TestARoleThatCountsLateIsWaitedFor(t *testing.T) {
	t.Parallel()
	const step = 60 * time.Millisecond
	for _, test := range []struct {
		name            string
		late            time.Duration
		subnets, groups string
	}{
		{"for the key", 0, "", ""},
		{"for the network", 0, "subnet-1", "sg-1"},
		{"and the function fails", 2 * step, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, lambdatest.Config{
				Handler: answering, NewRole: 2, RoleDelay: step, RoleGrant: step, RoleLate: test.late,
			})
			e := openAt(t, server, "young", opening{options: map[string]string{
				"role_arn": "", "create_role": "true", "subnet_ids": test.subnets, "security_group_ids": test.groups,
			}})
			u := unitOf(t, e, script(t, "x"), small(0))
			mustDeploy(t, e, u)
			answers(t, e, 0, "1-one")
			if err := e.Remove(t.Context(), u.ID); err != nil {
				t.Fatal(err)
			}
			if left := server.Left(); !onlyLogs(left) {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
