//go:build !faas_only || faas_aws

package aws

import (
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// A role that was created for the deployment becomes known to IAM, to Lambda, and to the keys and
// networks that Lambda asks for, one after the other. What was made too early fails later.
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
