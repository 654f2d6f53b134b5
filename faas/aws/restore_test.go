//go:build !faas_only || faas_aws

package aws

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

func TestRestorePutsEverythingBack(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "back", opening{})
	one := unitOf(t, e, script(t, "x"), valued("-one", 5, 2))
	prior := mustDeploy(t, e, one)
	if prior.NotRestorable != "" {
		t.Fatalf("not restorable: %s", prior.NotRestorable)
	}
	if strings.Contains(fmt.Sprintf("%s %+v", prior.Private, prior), "-one") {
		t.Errorf("the state holds the environment: %+v", prior)
	}
	f := valued("-two", 9, 0)
	f.MemoryMB, f.TimeoutSecs = 512, 60
	two := unitOf(t, e, script(t, "y"), f)
	for range 2 {
		mustDeploy(t, e, two)
		if err := e.Restore(t.Context(), prior); err != nil {
			t.Fatal(err)
		}
		answers(t, e, 0, "1-one")
		got, _ := server.Function(one.ID)
		if *got.Reserved != 5 || got.Provisioned["live"] != 2 || got.MemorySize != 256 || got.Timeout != 30 ||
			got.Env["VALUE"] != "-one" {
			t.Errorf("after Restore: %+v", got)
		}
		if s, err := e.Observe(t.Context(), one.ID); err != nil || !s.Current(one) {
			t.Errorf("after Restore the state is %+v, %v", s, err)
		}
	}
	// $LATEST still has the code of the update. The next deployment does not take it for the live one.
	f = valued("-three", 5, 2)
	mustDeploy(t, e, unitOf(t, e, script(t, "x"), f))
	if got, _ := server.Function(one.ID); got.CodeSha256 != codeSHA256(one.Package.SHA256()) {
		t.Error("a change of the configuration took the code of a failed update along")
	}
}

// A read from before the update shows the reserved concurrency that Restore has to set.
func TestRestoreSetsTheReservedConcurrencyThoughReadsLag(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Updating: -1, Pending: -1})
	network := &replay{}
	e := openAt(t, server, "reserved", opening{client: &http.Client{Transport: network}})
	bin := script(t, "x")
	mustDeploy(t, e, unitOf(t, e, bin, valued("-one", 5, 0)))
	prior, err := e.Observe(t.Context(), functionName("reserved", 0))
	if err != nil {
		t.Fatal(err)
	}
	before := network.kept
	mustDeploy(t, e, unitOf(t, e, bin, valued("-one", 9, 0)))
	network.kept, network.times = before, 3
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	if got, _ := server.Function(prior.ID); *got.Reserved != 5 {
		t.Errorf("%d are reserved", *got.Reserved)
	}
}

func TestWhatCannotBePutBackIsToldBeforehand(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "PublishVersion" && refuse.Load() {
			return &lambdatest.Fault{Status: 403, Code: "AccessDeniedException", Message: "not today"}
		}
		return nil
	}})
	e := openAt(t, server, "untold", opening{})
	u := unitOf(t, e, script(t, "x"), small(0))
	refuse.Store(true)
	if _, err := deploy(t.Context(), e, u); err == nil {
		t.Fatal("a deployment without a version is a success")
	}
	refuse.Store(false)
	unfinished, err := e.Observe(t.Context(), u.ID)
	if err != nil || !strings.Contains(unfinished.NotRestorable, "no version") {
		t.Errorf("%+v, %v", unfinished, err)
	}
	if err := e.Restore(t.Context(), unfinished); faas.CodeOf(err) != faas.ErrUnsupported {
		t.Errorf("Restore of a function that was never live: %v", err)
	}

	// The state could be restored when it was read, and cannot any more.
	prior := mustDeploy(t, e, u)
	mustDeploy(t, e, unitOf(t, e, script(t, "y"), small(0)))
	one := "1"
	if _, err := e.lambda.DeleteFunction(t.Context(),
		&lambda.DeleteFunctionInput{FunctionName: &u.ID, Qualifier: &one}); err != nil {
		t.Fatal(err)
	}
	if err := e.Restore(t.Context(), prior); err == nil || faas.CodeOf(err) == faas.ErrUnsupported ||
		!strings.Contains(err.Error(), "version 1") {
		t.Errorf("Restore of a version that somebody deleted: %v", err)
	}
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.Restore(t.Context(), prior); err == nil || faas.CodeOf(err) == faas.ErrUnsupported ||
		!strings.Contains(err.Error(), u.ID) {
		t.Errorf("Restore of a function that somebody deleted: %v", err)
	}
}

func TestVersionsOfFailedDeploymentsAreRemoved(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: crashing})
	e := openAt(t, server, "pruned", opening{})
	bin := script(t, "x")
	one := unitOf(t, e, bin, valued("-one", 0, 0))
	prior := mustDeploy(t, e, one)
	for i := range 5 {
		f := valued("-bad", 0, 0)
		f.MemoryMB += uint32(i)
		if _, err := deploy(t.Context(), e, unitOf(t, e, bin, f)); faas.CodeOf(err) != faas.ErrFunctionFailed {
			t.Fatalf("got %v", err)
		}
		if i == 1 {
			if err := e.Restore(t.Context(), prior); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, _ := server.Function(one.ID)
	if diff := cmp.Diff([]int{1, 5, 6}, got.Versions); diff != "" {
		t.Errorf("published versions (-want +got):\n%s", diff)
	}
	answers(t, e, 0, "1-one")
}

// The service's old versions make room for new ones, except those that Restore may go back to.
func TestAFullCodeStorageIsCleared(t *testing.T) {
	t.Parallel()
	const maxCode = 75 << 30
	room := int64(1 << 20)
	server := serve(t, lambdatest.Config{Handler: answering, CodeUsed: maxCode - room})
	e := openAt(t, server, "full", opening{options: map[string]string{"keep_versions": "10"}})
	padded := func(job uint32, text string) faas.Unit {
		u := unitOf(t, e, script(t, text), small(job))
		u.Files = append(u.Files, faas.PackageFile{Name: "padding", Content: randomBytes(text, 100<<10)})
		var err error
		if u.Package, err = faas.BuildPackage(t.Context(), t.TempDir(), u.Files); err != nil {
			t.Fatal(err)
		}
		return u
	}
	other := mustDeploy(t, e, padded(1, "other")) // 2 of 10 parts
	fresh := openAt(t, server, "full", opening{options: map[string]string{"keep_versions": "10"}})
	for i := range 8 { // up to 9 of them otherwise
		mustDeploy(t, e, padded(0, fmt.Sprint("text ", i)))
	}
	last := mustDeploy(t, fresh, padded(0, "the last"))
	if err := e.Restore(t.Context(), other); err != nil {
		t.Error(err)
	}
	answers(t, e, 1, "1-one")
	mustDeploy(t, fresh, padded(0, "one more"))
	if err := fresh.Restore(t.Context(), last); err != nil {
		t.Errorf("the version to go back to went too: %v", err)
	}
}

func randomBytes(seed string, n int) []byte {
	var key [32]byte
	copy(key[:], seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}
