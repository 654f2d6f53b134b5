//go:build !faas_only || faas_aws

package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// valued returns small with a value in its environment, and with limits.
func valued(value string, concurrent, warm uint32) faas.Function {
	f := small(0)
	f.Env = faas.NewEnv(map[string]string{"VALUE": value})
	f.MaxConcurrency, f.KeepWarm = concurrent, warm
	return f
}

// crashing answers like answering, but crashes if the value in its environment is "-bad".
func crashing(i lambdatest.Invocation) lambdatest.Answer {
	if i.Env["VALUE"] == "-bad" {
		return crash()
	}
	return answering(i)
}

// Instances that are kept warm take all of the reserved concurrency, so that no other version can
// be probed.
func TestAProbeThatTheOwnReservationRefusesDoesNotDecide(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: crashing})
	e := openAt(t, server, "warm", opening{})
	bin := script(t, "x")
	mustDeploy(t, e, unitOf(t, e, bin, valued("-one", 2, 2)))
	two := unitOf(t, e, bin, valued("-two", 2, 2))
	prior := mustDeploy(t, e, two)
	answers(t, e, 0, "2-two")
	got, _ := server.Function(two.ID)
	if diff := cmp.Diff([]int{1, 2}, got.Versions); diff != "" {
		t.Errorf("published versions (-want +got):\n%s", diff)
	}
	if n := len(server.Calls("Invoke")); n > 10 {
		t.Errorf("%d invocations were sent", n)
	}

	// A version that cannot be probed before it is live is probed then.
	if _, err := deploy(t.Context(), e, unitOf(t, e, bin, valued("-bad", 2, 2))); faas.CodeOf(
		err) != faas.ErrFunctionFailed {
		t.Errorf("an update that crashes: %v", err)
	}
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	answers(t, e, 0, "2-two")
}

func TestAFunctionThatIsBusyIsUpdated(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	server := serve(t, lambdatest.Config{Handler: func(i lambdatest.Invocation) lambdatest.Answer {
		if !faas.IsWarmRequest(i.Payload) && i.Version == "1" {
			close(running)
			<-release
		}
		return answering(i)
	}})
	e := openAt(t, server, "busy", opening{})
	bin := script(t, "x")
	mustDeploy(t, e, unitOf(t, e, bin, valued("-one", 1, 0)))
	var wg sync.WaitGroup
	wg.Go(func() { answers(t, e, 0, "1-one") })
	<-running
	defer wg.Wait()
	defer close(release)
	mustDeploy(t, e, unitOf(t, e, bin, valued("-two", 1, 0)))
	if got, _ := server.Function(functionName("busy", 0)); got.Aliases["live"] != "2" {
		t.Errorf("the alias points to version %s", got.Aliases["live"])
	}
}

func TestAnAliasThatMovesIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, MovingAlias: 40 * time.Millisecond})
	e := openAt(t, server, "moving", opening{})
	bin := script(t, "x")
	first := mustDeploy(t, e, unitOf(t, e, bin, valued("-one", 0, 2)))
	server.ForgetCalls()
	mustDeploy(t, e, unitOf(t, e, bin, valued("-two", 0, 2)))
	if n := len(server.Calls("PutProvisionedConcurrencyConfig")); n != 0 {
		t.Errorf("the same number of instances was asked for %d times", n)
	}
	mustDeploy(t, e, unitOf(t, e, bin, valued("-three", 0, 3)))
	got, _ := server.Function(first.ID)
	if got.Aliases["live"] != "3" || got.Provisioned["live"] != 3 {
		t.Errorf("alias %v, kept warm %v", got.Aliases, got.Provisioned)
	}
	if err := e.Restore(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got, _ := server.Function(first.ID); got.Aliases["live"] != "1" || got.Provisioned["live"] != 2 {
		t.Errorf("after Restore: alias %v, kept warm %v", got.Aliases, got.Provisioned)
	}
	mustDeploy(t, e, unitOf(t, e, bin, valued("-four", 0, 0)))
	if got, _ := server.Function(first.ID); len(got.Provisioned) != 0 {
		t.Errorf("kept warm %v", got.Provisioned)
	}
	if err := e.Remove(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
}

// A deployment that fails while the alias moves can still be removed.
func TestAFunctionWhoseAliasMovesIsRemoved(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, MovingAlias: 40 * time.Millisecond})
	e := openAt(t, server, "moved", opening{})
	bin := script(t, "x")
	u := unitOf(t, e, bin, valued("-one", 0, 2))
	mustDeploy(t, e, u)
	if _, err := e.lambda.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &u.ID}); err != nil {
		t.Fatal(err)
	}
	server.MoveAlias(u.ID, "live", "1") // which shows weights for a while, too
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
}

func TestANewAliasIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, NewAlias: 3})
	e := openAt(t, server, "alias", opening{})
	mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
	answers(t, e, 0, "1-one")
}

// An alias that exists, although a change does not find it, is not created twice.
func TestAnAliasThatChangesDoNotFindIsWaitedFor(t *testing.T) {
	t.Parallel()
	var missing atomic.Int64
	server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "UpdateAlias" && missing.Add(-1) >= 0 {
			return &lambdatest.Fault{Status: 404, Code: "ResourceNotFoundException", Message: "Cannot find alias arn"}
		}
		return nil
	}})
	e := openAt(t, server, "unfound", opening{})
	bin := script(t, "x")
	mustDeploy(t, e, unitOf(t, e, bin, valued("-one", 0, 0)))
	missing.Store(3)
	mustDeploy(t, e, unitOf(t, e, bin, valued("-two", 0, 0)))
	answers(t, e, 0, "2-two")
}

func TestAnUpdateThatLambdaFailsIsToldByItsReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]faas.Code{
		"InsufficientRolePermissions": faas.ErrPermissionDenied, "KMSKeyAccessDenied": faas.ErrPermissionDenied,
		"SubnetOutOfIPAddresses": faas.ErrUnavailable,
		"InvalidSubnet":          faas.ErrInvalidArgument, "EC2RequestLimitExceeded": faas.ErrThrottled,
		"InternalError": faas.ErrUnavailable,
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			server := serve(t, lambdatest.Config{Handler: answering})
			e := openAt(t, server, "failed", opening{})
			bin := script(t, "x")
			one := unitOf(t, e, bin, valued("-one", 0, 0))
			mustDeploy(t, e, one)
			server.Fail(one.ID, reason, "because of the moon")
			if _, err := deploy(t.Context(), e, unitOf(t, e, bin, valued("-two", 0, 0))); faas.CodeOf(err) != want ||
				!strings.Contains(err.Error(), "because of the moon") {
				t.Errorf("of the configuration: %v", err)
			}
			server.Fail(one.ID, reason, "because of the sun")
			if _, err := deploy(t.Context(), e, unitOf(t, e, script(t, "y"), valued("-one", 0, 0))); faas.CodeOf(err) != want ||
				!strings.Contains(err.Error(), "because of the sun") {
				t.Errorf("of the code: %v", err)
			}
			answers(t, e, 0, "1-one")
		})
	}
}

const (
	textEC2Throttled = "Your request has been throttled by EC2, please make sure you have enough API rate limit."
	textNoInterface  = "The provided execution role does not have permissions to call CreateNetworkInterface on EC2"
	textNoGrant      = "Lambda was unable to configure access to your environment variables because the KMS key is " +
		"invalid for CreateGrant. Please check your KMS key settings."
)

// One error code of Lambda has many causes. Each passes, or is refused with its own remedy.
func TestEveryCauseOfABadParameterHasItsRemedy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		message string
		want    faas.Code
		text    string
	}{
		{textEC2Throttled, faas.ErrThrottled, "throttled by EC2"},
		{textNoInterface, faas.ErrPermissionDenied, "AWSLambdaVPCAccessExecutionRole"},
		{textNoGrant, faas.ErrPermissionDenied, "kms:CreateGrant"},
		{"The role defined for the function cannot be assumed by Lambda.", faas.ErrPermissionDenied, "trust policy"},
	} {
		for _, operation := range []string{"CreateFunction", "UpdateFunctionConfiguration"} {
			t.Run(operation+" "+test.text, func(t *testing.T) {
				t.Parallel()
				var times atomic.Int64
				server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
					if c.Operation == operation && times.Add(-1) >= 0 {
						return &lambdatest.Fault{Status: 400, Code: "InvalidParameterValueException", Message: test.message}
					}
					return nil
				}})
				quick := fastPace
				quick.role = 30 * time.Millisecond
				e, hasty := openAt(t, server, "cause", opening{}), openAt(t, server, "cause", opening{pace: &quick})
				bin := script(t, "x")
				one, two := unitOf(t, e, bin, valued("-one", 0, 0)), unitOf(t, e, bin, valued("-two", 0, 0))
				if operation != "CreateFunction" {
					mustDeploy(t, e, one)
				}
				times.Store(1 << 30)
				_, err := deploy(t.Context(), hasty, two)
				if faas.CodeOf(err) != test.want || !strings.Contains(fmt.Sprint(err), test.text) {
					t.Errorf("a refusal that stays: %v", err)
				}
				if strings.Contains(fmt.Sprint(err), "trust policy") != (test.text == "trust policy") {
					t.Errorf("the remedy is another one's: %v", err)
				}
				times.Store(3)
				mustDeploy(t, e, two)
			})
		}
	}
}

// Reads lag behind a change by somebody else, whose revision an update needs.
func TestARevisionThatReadsLagBehindIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, StaleReads: 12, Updating: -1, Pending: -1})
	e, other := openAt(t, server, "lag", opening{}), openAt(t, server, "lag", opening{})
	bin := script(t, "x")
	one := unitOf(t, e, bin, valued("-one", 0, 0))
	s, err := e.Converge(t.Context(), one, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	memory := int32(999)
	if _, err := other.lambda.UpdateFunctionConfiguration(
		t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: &one.ID, MemorySize: &memory}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Converge(t.Context(), unitOf(t, e, bin, valued("-two", 0, 0)), &s, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := server.Function(one.ID); got.MemorySize != 256 || got.Env["VALUE"] != "-two" {
		t.Errorf("memory %d, environment %v", got.MemorySize, got.Env)
	}
}

// Restore reads the function as it was before an update whose answer was lost, and still restores
// it.
func TestRestoreIsNotDeceivedByStaleReads(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	server := serve(t, lambdatest.Config{Handler: answering, StaleReads: 9,
		Fault: func(c lambdatest.Call) *lambdatest.Fault {
			if c.Operation == "UpdateFunctionConfiguration" && armed.CompareAndSwap(true, false) {
				return &lambdatest.Fault{Status: 403, Code: "AccessDeniedException", Message: "not today", Late: true}
			}
			return nil
		}})
	e := openAt(t, server, "deceived", opening{})
	bin := script(t, "x")
	s, err := e.Converge(t.Context(), unitOf(t, e, bin, valued("-one", 0, 0)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	if _, err := e.Converge(t.Context(), unitOf(t, e, bin, valued("-two", 0, 0)), &s, nil); faas.CodeOf(
		err) != faas.ErrPermissionDenied {
		t.Fatalf("got %v", err)
	}
	if err := e.Restore(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got, _ := server.Function(s.ID); got.Env["VALUE"] != "-one" {
		t.Errorf("the environment is %v", got.Env)
	}
}

// replay is a network on which some reads of a function get the answer of an earlier one.
type replay struct {
	mu    sync.Mutex
	kept  []byte
	times int // left to answer so
}

func (r *replay) RoundTrip(req *http.Request) (*http.Response, error) {
	isRead := req.Method == http.MethodGet && !strings.Contains(req.URL.Path, "/aliases") && req.URL.RawQuery == ""
	r.mu.Lock()
	defer r.mu.Unlock()
	old := isRead && r.times > 0
	if old {
		r.times--
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || !isRead {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if old {
		body = r.kept
		resp.Header.Del("Content-Length")
		resp.ContentLength = int64(len(body))
	}
	r.kept, resp.Body = body, io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func TestStaleReadsDoNotMakeAnotherVersionLive(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Updating: -1, Pending: -1})
	network := &replay{}
	e, lagging := openAt(t, server, "replay", opening{}),
		openAt(t, server, "replay", opening{client: &http.Client{Transport: network}})
	bin := script(t, "x")
	one, two := unitOf(t, e, bin, valued("-one", 0, 0)), unitOf(t, e, bin, valued("-two", 0, 0))
	mustDeploy(t, e, one)
	prior, err := lagging.Observe(t.Context(), one.ID)
	if err != nil {
		t.Fatal(err)
	}
	mustDeploy(t, e, two)
	network.times = 4
	s, err := lagging.Converge(t.Context(), one, &prior, nil)
	if err != nil || !s.Current(one) {
		t.Fatalf("%+v, %v", s, err)
	}
	answers(t, e, 0, "3-one")
}

func TestANewRoleIsGivenItsPolicyWhenIAMKnowsIt(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, NewRole: 3})
	e := openAt(t, server, "new role", opening{options: map[string]string{"role_arn": "", "create_role": "true"}})
	mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
	if policies := server.Roles()[e.roleName()]; len(policies) != 1 {
		t.Errorf("the role has the policies %v", policies)
	}
}

// The error of a wait that ends names what was waited for, the end of the context and the last
// refusal.
func TestAWaitThatItsContextEndsKeepsTheLastRefusal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		operation string
		fault     lambdatest.Fault
	}{
		{"CreateFunction", lambdatest.Fault{Status: 400, Code: "InvalidParameterValueException",
			Message: "The role defined for the function cannot be assumed by Lambda."}},
		{"PublishVersion", lambdatest.Fault{Status: 409, Code: "ResourceConflictException",
			Message: "An update is in progress for resource: moon"}},
		{"GetFunction", lambdatest.Fault{Status: 503, Code: "ServiceException", Message: "the moon is down"}},
		{"Invoke", lambdatest.Fault{Status: 409, Code: "ResourceConflictException",
			Message: "The function is currently in the following state: Pending"}},
		{"GetProvisionedConcurrencyConfig", lambdatest.Fault{
			Status: 503, Code: "ServiceException", Message: "the moon is down"}},
	} {
		t.Run(test.operation, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
				if c.Operation != test.operation {
					return nil
				}
				if c.N == 5 {
					time.AfterFunc(5*time.Millisecond, cancel)
				}
				return &test.fault
			}})
			e := openAt(t, server, "ended", opening{})
			_, err := e.Converge(ctx, unitOf(t, e, script(t, "x"), valued("-one", 0, 1)), nil, nil)
			var api smithy.APIError
			if faas.CodeOf(err) != faas.ErrTimeout || !errors.Is(err, context.Canceled) || !errors.As(err, &api) ||
				api.ErrorCode() != test.fault.Code {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWarmWantsANumber(t *testing.T) {
	t.Parallel()
	e, _ := deployed(t, nil, nil)
	for _, n := range []int{0, -1} {
		if _, err := e.Warm(t.Context(), 0, n); faas.CodeOf(err) != faas.ErrInvalidArgument {
			t.Errorf("%d: %v", n, err)
		}
	}
}
