//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// Each call of a deployment in turn fails. Whatever happened, repeating the deployment ends in the
// wanted state, and removal leaves nothing.
func TestEveryInterruptionCanBeFinished(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name string
		lambdatest.Fault
	}{
		{"refused", lambdatest.Fault{Status: 403, Code: "AccessDeniedException", Message: "not today"}},
		{"lost answer", lambdatest.Fault{Status: 403, Code: "AccessDeniedException", Message: "not today", Late: true}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			var at, count atomic.Int64 // fault at the at-th call, 0 for none
			server := serve(t, lambdatest.Config{Handler: answering, Pending: -1, Updating: -1,
				Fault: func(lambdatest.Call) *lambdatest.Fault {
					if n := count.Add(1); n == at.Load() {
						return &fault.Fault
					}
					return nil
				}})
			bin, next := script(t, "x"), script(t, "y")
			e := openAt(t, server, "faults", opening{})
			f := small(0)
			f.MaxConcurrency, f.KeepWarm = 5, 1
			g := small(0)
			g.MemoryMB, g.Env = 512, faas.NewEnv(map[string]string{"VALUE": "-two"})
			one, two := unitOf(t, e, bin, f), unitOf(t, e, next, g)
			// at is the number of the call within the operation that is interrupted.
			interrupt := func(n int64, do func() error) (bool, error) {
				count.Store(0)
				at.Store(n)
				err := do()
				reached := count.Load() >= n
				at.Store(0)
				return reached, err
			}
			version := 0
			for _, step := range []struct {
				name string
				do   func() error
				want faas.Unit
			}{
				{"create", func() error { _, err := deploy(t.Context(), e, one); return err }, one},
				{"update", func() error { _, err := deploy(t.Context(), e, two); return err }, two},
			} {
				for n := int64(1); ; n++ {
					// Every round begins in the same state.
					if err := e.Remove(t.Context(), one.ID); err != nil {
						t.Fatal(err)
					}
					var prior faas.State
					if step.name == "update" {
						prior = mustDeploy(t, e, one)
					}
					reached, err := interrupt(n, step.do)
					if !reached {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					if step.name == "update" && err != nil {
						if r, ierr := e.Invoke(t.Context(), 0, nil); ierr != nil || !strings.HasPrefix(string(r.Output), "1-one") &&
							!strings.HasPrefix(string(r.Output), "2-two") {
							t.Errorf("after a fault at call %d of the update, the function answers %v, %v", n, r, ierr)
						}
						if n%2 == 0 {
							if err := e.Restore(t.Context(), prior); err != nil {
								t.Fatalf("restore after a fault at call %d: %v", n, err)
							}
							if s, err := e.Observe(t.Context(), one.ID); err != nil || !s.Current(one) {
								t.Fatalf("restore after a fault at call %d: %+v, %v", n, s, err)
							}
							answers(t, e, 0, "1-one")
						}
					}
					mustDeploy(t, e, step.want)
					got, _ := server.Function(one.ID)
					if r, err := e.Invoke(t.Context(), 0, nil); err != nil ||
						!strings.HasSuffix(string(r.Output), step.want.Functions[0].Env["VALUE"].Reveal()) {
						t.Fatalf("after a fault at call %d of %s and another deployment, the function answers %v, %v", n, step.name, r,
							err)
					}
					if wantWarm := int(step.want.Functions[0].KeepWarm); got.Provisioned["live"] != wantWarm ||
						(got.Reserved != nil) != (step.want.Functions[0].MaxConcurrency > 0) {
						t.Fatalf("after a fault at call %d of %s: provisioned %v, reserved %v", n, step.name, got.Provisioned,
							got.Reserved)
					}
					version++
				}
			}
			if version < 15 {
				t.Errorf("only %d calls were interrupted", version)
			}
			for n := int64(1); ; n++ {
				mustDeploy(t, e, one)
				reached, err := interrupt(n, func() error { return e.Remove(t.Context(), one.ID) })
				if !reached {
					break
				}
				if err == nil && !fault.Late {
					t.Errorf("a refused call %d of Remove is success", n)
				}
				if err := e.Remove(t.Context(), one.ID); err != nil {
					t.Fatal(err)
				}
				if left := server.Left(); !onlyLogs(left) {
					t.Fatalf("left %v", left)
				}
			}
		})
	}
}

// Faults that pass are waited out and do not reach the caller.
func TestPassingTroubleIsWaitedOut(t *testing.T) {
	t.Parallel()
	conflict := lambdatest.Fault{Status: 409, Code: "ResourceConflictException",
		Message: "The operation cannot be performed at this time. An update is in progress for resource: arn"}
	for _, test := range []struct {
		name       string
		operations string
		fault      lambdatest.Fault
		times      int
	}{
		{"an update in progress", "UpdateFunctionCode UpdateFunctionConfiguration PublishVersion UpdateAlias " +
			"PutFunctionConcurrency DeleteFunction TagResource", conflict, 3},
		{"a revision that passed", "UpdateFunctionCode UpdateFunctionConfiguration",
			lambdatest.Fault{Status: 412, Code: "PreconditionFailedException",
				Message: "The Revision Id provided does not match"}, 1},
		{"a role that is not known yet", "CreateFunction UpdateFunctionConfiguration",
			lambdatest.Fault{Status: 400, Code: "InvalidParameterValueException",
				Message: "The role defined for the function cannot be assumed by Lambda."}, 3},
		{"throttling", "GetFunction", lambdatest.Fault{
			Status: 429, Code: "TooManyRequestsException", Message: "Rate Exceeded."}, 1},
		{"an internal error", "GetFunction", lambdatest.Fault{
			Status: 500, Code: "ServiceException", Message: "Something broke."}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
				if c.N <= test.times && strings.Contains(test.operations, c.Operation) && c.Qualifier == "" {
					return &test.fault
				}
				return nil
			}})
			e := openAt(t, server, "passing", opening{})
			u := unitOf(t, e, script(t, "x"), small(0))
			mustDeploy(t, e, u)
			f := small(0)
			f.MemoryMB, f.MaxConcurrency = 512, 3
			mustDeploy(t, e, unitOf(t, e, script(t, "y"), f))
			answers(t, e, 0, "2-one")
			if err := e.Remove(t.Context(), u.ID); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestTroubleThatStaysIsTold(t *testing.T) {
	t.Parallel()
	quick := fastPace
	quick.role, quick.settle, quick.state = 20*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
	for _, test := range []struct {
		name  string
		fault lambdatest.Fault
		want  faas.Code
		text  string
	}{
		{"the role cannot be assumed", lambdatest.Fault{
			Status: 400, Code: "InvalidParameterValueException",
			Message: "The role defined for the function cannot be assumed by Lambda."}, faas.ErrPermissionDenied,
			":role/lambda-basic"},
		{"another bad parameter", lambdatest.Fault{
			Status: 400, Code: "InvalidParameterValueException", Message: "Layer version is missing."}, faas.ErrInvalidArgument,
			"Layer version"},
		{"the account is full", lambdatest.Fault{Status: 400, Code: "CodeStorageExceededException",
			Message: "Code storage limit exceeded."}, faas.ErrTooLarge, "storage limit"},
		{"throttled", lambdatest.Fault{Status: 429, Code: "TooManyRequestsException", Message: "Rate Exceeded.",
			RetryAfter: "7"}, faas.ErrThrottled, "Rate Exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
				if c.Operation == "CreateFunction" {
					return &test.fault
				}
				return nil
			}})
			e := openAt(t, server, "staying", opening{pace: &quick})
			u := unitOf(t, e, script(t, "x"), small(4))
			_, err := e.Converge(t.Context(), u, nil, nil)
			var failed *faas.Error
			if faas.CodeOf(err) != test.want || !strings.Contains(fmt.Sprint(err), test.text) {
				t.Fatalf("got %v", err)
			}
			if failed = err.(*faas.Error); failed.JobID != 4 ||
				(test.want == faas.ErrThrottled) != (failed.RetryAfter == 7*time.Second) {
				t.Errorf("got %+v", failed)
			}
		})
	}
}

func TestANewRoleIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, RoleDelay: 50 * time.Millisecond,
		Fault: func(c lambdatest.Call) *lambdatest.Fault {
			if c.Operation == "CreateFunction" && c.N == 1 { // however slow the machine is
				return &lambdatest.Fault{Status: 400, Code: "InvalidParameterValueException",
					Message: "The role defined for the function cannot be assumed by Lambda."}
			}
			return nil
		}})
	e := openAt(t, server, "role", opening{options: map[string]string{"role_arn": "", "create_role": "true"}})
	u := unitOf(t, e, script(t, "x"), small(0))
	waited := false
	if _, err := e.Converge(t.Context(), u, nil,
		func(p faas.Progress) { waited = waited || p.Step == "wait for role" }); err != nil {
		t.Fatal(err)
	}
	if !waited {
		t.Error("the wait was not reported")
	}
	// A service whose name differs only in case has its own role, although IAM ignores case.
	other := openAt(t, server, "Role", opening{options: map[string]string{"role_arn": "", "create_role": "true"}})
	if _, err := other.ensureRole(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); !slices.Contains(left, "role "+other.roleName()) ||
		slices.Contains(left, "role "+e.roleName()) {
		t.Errorf("left %v", left)
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := serve(t, lambdatest.Config{Handler: answering, Pending: time.Hour,
		Fault: func(c lambdatest.Call) *lambdatest.Fault {
			if c.Operation == "GetFunction" && c.N == 2 { // the first one saw the state
				cancel()
			}
			return nil
		}})
	e := openAt(t, server, "endless", opening{})
	u := unitOf(t, e, script(t, "x"), small(0))
	_, err := e.Converge(ctx, u, nil, nil)
	if faas.CodeOf(err) != faas.ErrTimeout || !strings.Contains(fmt.Sprint(err), "Pending") {
		t.Errorf("got %v", err)
	}
	if s, err := e.Observe(t.Context(), u.ID); err != nil || s.Status != faas.StatusPending {
		t.Errorf("state %+v, %v", s, err)
	}
}
