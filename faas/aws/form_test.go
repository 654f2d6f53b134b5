//go:build !faas_only || faas_aws

package aws

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// binaries runs job binaries of this and of an older version of faas/job, according to the version
// of a function, and records the form of each invocation.
type binaries struct {
	mu    sync.Mutex
	older map[string]bool // by version
	forms []string
}

func (b *binaries) handle(i lambdatest.Invocation) lambdatest.Answer {
	if faas.IsWarmRequest(i.Payload) {
		return lambdatest.Answer{Payload: []byte(faas.WarmResponse)}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	job, args, compact, err := faas.ParseAnyRequest(nil, i.Payload)
	form := "published"
	if compact {
		form = "compact"
	}
	b.forms = append(b.forms, form)
	if b.older[i.Version] {
		job, args, err = faas.ParseRequest(nil, i.Payload)
	}
	if err != nil {
		text, _ := json.Marshal(map[string]string{"errorMessage": err.Error(), "errorType": "BadRequest"})
		return lambdatest.Answer{Payload: text, FunctionError: "Unhandled"}
	}
	return lambdatest.Answer{Payload: faas.AppendResponse(
		nil, &faas.Response{JobID: job, Result: args, Success: true, Compact: compact})}
}

func (b *binaries) taken() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	forms := b.forms
	b.forms = nil
	return forms
}

func (b *binaries) setOlder(version string, older bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.older == nil {
		b.older = map[string]bool{}
	}
	b.older[version] = older
}

// compactUnit returns the unit of a program that takes the compact form, or not.
func compactUnit(t *testing.T, e *Executor, text string, compact bool) faas.Unit {
	t.Helper()
	u := unitOf(t, e, script(t, text), small(0))
	u.Compact = compact
	return u
}

func echoes(t *testing.T, e *Executor, args []byte) {
	t.Helper()
	r, err := e.Invoke(t.Context(), 0, args)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Output, args) {
		t.Errorf("%d bytes came back as %d others", len(args), len(r.Output))
	}
}

func formServer(t *testing.T, fault func(lambdatest.Call) *lambdatest.Fault) (*binaries, *lambdatest.Server) {
	t.Helper()
	b := &binaries{}
	return b, serve(t, lambdatest.Config{Handler: b.handle, Pending: -1, Updating: -1, Fault: fault})
}

// large fits only in the compact form.
var large = bytes.Repeat([]byte{200}, 2<<20)

func TestTheFormIsThatOfWhatIsDeployed(t *testing.T) {
	t.Parallel()
	b, server := formServer(t, nil)
	e := openAt(t, server, "form", opening{})
	if s := mustDeploy(t, e, compactUnit(t, e, "new", true)); !s.Compact {
		t.Error("the state does not say so")
	}
	server.ForgetCalls()
	for range 3 {
		echoes(t, e, large)
	}
	if n := len(server.Calls("GetFunction")); n != 1 {
		t.Errorf("the tags were read %d times", n)
	}
	if diff := cmp.Diff([]string{"compact", "compact", "compact"}, b.taken()); diff != "" {
		t.Error(diff)
	}

	// This executor deploys a foreign program in its place.
	if s := mustDeploy(t, e, compactUnit(t, e, "foreign", false)); s.Compact {
		t.Error("the state of a foreign program says that it takes the compact form")
	}
	echoes(t, e, []byte("x"))
	_, err := e.Invoke(t.Context(), 0, large)
	var failed *faas.Error
	if !errors.As(err, &failed) || failed.Code != faas.ErrTooLarge || !failed.NotRun ||
		!strings.Contains(err.Error(), "faas/job") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"published"}, b.taken()); diff != "" {
		t.Error(diff)
	}
}

// A package with a record differs from the same package without one, so that what an older version
// deployed can be deployed again.
func TestDeployingAgainRecordsTheForm(t *testing.T) {
	t.Parallel()
	b, server := formServer(t, nil)
	e := openAt(t, server, "form", opening{})
	u := compactUnit(t, e, "new", false)
	older := mustDeploy(t, e, u)
	u.Compact = true
	if older.Current(u) {
		t.Error("the plan would keep what has no record")
	}
	server.ForgetCalls()
	if s := mustDeploy(t, e, u); !s.Current(u) {
		t.Error("it is not recorded")
	}
	if n := len(server.Calls("UpdateFunctionCode")) + len(server.Calls("UpdateFunctionConfiguration")); n > 0 {
		t.Errorf("%d updates were sent for a tag", n)
	}
	echoes(t, e, large)
	if diff := cmp.Diff([]string{"compact"}, b.taken()); diff != "" {
		t.Error(diff)
	}
}

func TestARestoredFunctionHasTheFormThatItHad(t *testing.T) {
	t.Parallel()
	b, server := formServer(t, nil)
	e := openAt(t, server, "form", opening{})
	first := mustDeploy(t, e, compactUnit(t, e, "foreign", false))
	second := mustDeploy(t, e, compactUnit(t, e, "new", true))
	for _, prior := range []faas.State{first, second, first} {
		if err := e.Restore(t.Context(), prior); err != nil {
			t.Fatal(err)
		}
		echoes(t, e, []byte("x"))
		want := "published"
		if prior.Compact {
			want = "compact"
		}
		if diff := cmp.Diff([]string{want}, b.taken()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestNoCallFailsWhileAnotherMachineChangesTheForm(t *testing.T) {
	t.Parallel()
	b, server := formServer(t, nil)
	deployer, runner := openAt(t, server, "form", opening{}), openAt(t, server, "form", opening{})
	mustDeploy(t, deployer, compactUnit(t, deployer, "1", true))
	echoes(t, runner, large)

	// The job binary is one of an older version again. The runner learns this from the refusal, which
	// runs nothing.
	b.setOlder("2", true)
	mustDeploy(t, deployer, compactUnit(t, deployer, "2", false))
	for range 3 {
		echoes(t, runner, []byte("x"))
	}
	if diff := cmp.Diff([]string{"compact", "compact", "published", "published", "published"}, b.taken()); diff != "" {
		t.Error(diff)
	}
	// The new version is back. Arguments that do not fit make the runner read the tags again.
	mustDeploy(t, deployer, compactUnit(t, deployer, "3", true))
	echoes(t, runner, large)
	echoes(t, runner, []byte("x"))
	if diff := cmp.Diff([]string{"compact", "compact"}, b.taken()); diff != "" {
		t.Error(diff)
	}
	// If a version answers that the tags do not name, the runner reads the tags again too.
	mustDeploy(t, deployer, compactUnit(t, deployer, "4", false))
	for range 3 {
		echoes(t, runner, []byte("x")) // which takes the compact form: the tag was all that is missing
	}
	if diff := cmp.Diff([]string{"compact", "published", "published"}, b.taken()); diff != "" {
		t.Error(diff)
	}
}

// Older versions of this module do not know the tag, and leave it behind.
func TestATagOfAnotherPackageSaysNothing(t *testing.T) {
	t.Parallel()
	b, server := formServer(t, nil)
	e := openAt(t, server, "form", opening{})
	s := mustDeploy(t, e, compactUnit(t, e, "1", true))
	if _, err := e.lambda.TagResource(t.Context(),
		&lambda.TagResourceInput{Resource: &s.Resource,
			Tags: map[string]string{tagPackage: strings.Repeat("0", 64)}}); err != nil {
		t.Fatal(err)
	}
	echoes(t, e, []byte("x"))
	if diff := cmp.Diff([]string{"published"}, b.taken()); diff != "" {
		t.Error(diff)
	}
	if s, err := e.Observe(t.Context(), s.ID); err != nil || s.Compact {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestWhoMayNotReadTheTagsInvokesAllTheSame(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]lambdatest.Fault{
		"denied": {Status: 403, Code: "AccessDeniedException"}, "throttled": {Status: 429, Code: "TooManyRequestsException"},
		"lost": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var armed sync.Map
			b, server := formServer(t, func(c lambdatest.Call) *lambdatest.Fault {
				if _, on := armed.Load("on"); on && c.Operation == "GetFunction" {
					return &fault
				}
				return nil
			})
			e := openAt(t, server, "form", opening{})
			mustDeploy(t, e, compactUnit(t, e, "1", true))
			armed.Store("on", true)
			server.ForgetCalls()
			for range 3 {
				echoes(t, e, []byte("x"))
			}
			if diff := cmp.Diff([]string{"published", "published", "published"}, b.taken()); diff != "" {
				t.Error(diff)
			}
			if n := len(server.Calls("GetFunction")); n > 2 { // net/http itself sends a read again
				t.Errorf("the tags were asked for %d times", n)
			}
		})
	}
}

func TestEventsAreSentInTheFormThatEverythingTakesIfTheyFit(t *testing.T) {
	t.Parallel()
	b, server := formServer(t, nil)
	e := openAt(t, server, "form", opening{})
	mustDeploy(t, e, compactUnit(t, e, "1", true))
	for _, args := range [][]byte{[]byte("x"), large[:700<<10]} {
		if err := e.InvokeEvent(t.Context(), 0, args); err != nil {
			t.Fatal(err)
		}
	}
	var failed *faas.Error
	if err := e.InvokeEvent(t.Context(), 0, large[:800<<10]); !errors.As(err, &failed) ||
		failed.Code != faas.ErrTooLarge || !failed.NotRun {
		t.Errorf("got %v", err)
	}
	var got []string
	for deadline := time.Now().Add(time.Minute); len(got) < 2 &&
		time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		got = append(got, b.taken()...)
	}
	if len(got) != 2 || got[0] == got[1] {
		t.Errorf("the events came as %q", got)
	}
}
