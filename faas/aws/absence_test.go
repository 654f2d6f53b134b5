//go:build !faas_only || faas_aws

package aws

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// A read that does not find an existing function prevents no removal.
func TestRemoveSendsItsDeleteThoughLooksFindNothing(t *testing.T) {
	t.Parallel()
	for _, missing := range []int64{1, 2, 3, 50} {
		var left atomic.Int64
		server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
			if (c.Operation == "GetFunction" || c.Operation == "GetRole") && left.Add(-1) >= 0 {
				return &lambdatest.Fault{Status: 404, Code: map[string]string{
					"lambda": "ResourceNotFoundException", "iam": "NoSuchEntity"}[c.Service], Message: "not found"}
			}
			return nil
		}})
		server.CreateBucket("packages")
		e := openAt(t, server, "looks", opening{options: map[string]string{
			"role_arn": "", "create_role": "true", "bucket": "packages", "remove_logs": "true"}})
		e.direct = 100
		u := unitOf(t, e, script(t, "x"), small(0))
		mustDeploy(t, e, u)
		left.Store(missing)
		if err := e.Remove(t.Context(), u.ID); err != nil {
			t.Fatal(err)
		}
		left.Store(0)
		if left := server.Left(); len(left) != 0 {
			t.Errorf("%d looks that find nothing: left %v", missing, left)
		}
	}
}

// forgetful is a network on which lists of functions are empty.
type forgetful struct{}

func (forgetful) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil && req.Method == http.MethodGet && strings.Trim(req.URL.Path, "/") == "2015-03-31/functions" {
		resp.Body.Close()
		body := []byte(`{"Functions":[]}`)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return resp, err
}

// A list that lacks a function does not make the role go.
func TestARoleStaysWhileAFunctionStands(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "stands", opening{options: map[string]string{"role_arn": "", "create_role": "true"},
		client: &http.Client{Transport: forgetful{}}})
	bin := script(t, "x")
	for job := range uint32(2) {
		mustDeploy(t, e, unitOf(t, e, bin, small(job)))
	}
	role := "role " + e.roleName()
	if err := e.Remove(t.Context(), functionName("stands", 0)); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); !slices.Contains(left, role) {
		t.Fatalf("the role of a function that stands was removed: %v", left)
	}
	if err := e.Remove(t.Context(), functionName("stands", 1)); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
}

func TestAPolicyOfSomebodyElseIsNamed(t *testing.T) {
	t.Parallel()
	quick := fastPace
	quick.settle = 20e6
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "attached", opening{options: map[string]string{"role_arn": "", "create_role": "true"},
		pace: &quick})
	u := unitOf(t, e, script(t, "x"), small(0))
	mustDeploy(t, e, u)
	const policy = "arn:aws:iam::aws:policy/AWSLambdaExecute"
	server.AttachPolicies(e.roleName(), policy)
	err := e.Remove(t.Context(), u.ID)
	if faas.CodeOf(err) != faas.ErrConflict || !strings.Contains(err.Error(), policy) ||
		!strings.Contains(err.Error(), e.roleName()) {
		t.Errorf("got %v", err)
	}
}

// A function that existed although a read did not find it is told apart from one that this executor
// has made.
func TestAFunctionThatExistedIsNotTakenForOnesOwnCreation(t *testing.T) {
	t.Parallel()
	var lost, refuse atomic.Bool
	server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "CreateFunction" && lost.CompareAndSwap(true, false) {
			return &lambdatest.Fault{Late: true} // the connection breaks
		}
		if c.Operation == "TagResource" && refuse.Load() {
			return &lambdatest.Fault{Status: 403, Code: "AccessDeniedException", Message: "not today"}
		}
		return nil
	}})
	u := unitOf(t, openAt(t, server, "existed", opening{}), script(t, "x"), small(0))
	e := openAt(t, server, "existed", opening{})
	lost.Store(true)
	for range 2 { // the SDK sends the creation again; and an engine may converge again
		if s, err := e.Converge(t.Context(), u, nil, nil); err != nil || s.Existed {
			t.Errorf("one's own creation: existed %t, %v", s.Existed, err)
		}
	}
	if n := len(server.Calls("CreateFunction")); n != 3 {
		t.Errorf("%d creations were sent", n)
	}
	f := small(0)
	f.MemoryMB = 512
	two := unitOf(t, e, script(t, "x"), f)
	refuse.Store(true)
	if s, err := openAt(t, server, "existed", opening{}).Converge(t.Context(), two, nil, nil); err == nil || !s.Existed {
		t.Errorf("with an error: existed %t, %v", s.Existed, err)
	}
	refuse.Store(false)
	if s, err := openAt(t, server, "existed", opening{}).Converge(t.Context(), two, nil, nil); err != nil || !s.Existed {
		t.Errorf("existed %t, %v", s.Existed, err)
	}
}
