//go:build !faas_only || faas_gcp

package gcp_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/googleapis/gax-go/v2/apierror"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

// function returns a small function.
func function(job uint32) faas.Function {
	return faas.Function{JobID: job, MemoryMB: 512, TimeoutSecs: 60,
		Env: faas.NewEnv(map[string]string{"KEY": "the-secret-value", "PART": "the-secret"})}
}

// units returns units of the test's job binary, with their package.
func units(t testing.TB, e *gcp.Executor, functions ...faas.Function) []faas.Unit {
	t.Helper()
	return packed(t, e, jobBinary(t), functions...)
}

func packed(t testing.TB, e *gcp.Executor, bin *faas.Binary, functions ...faas.Function) []faas.Unit {
	t.Helper()
	all, err := e.Units(bin, functions)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := packages.build(all[0].Files)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].Package = pkg
	}
	return all
}

func context1m(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func converge(t testing.TB, e *gcp.Executor, u faas.Unit) faas.State {
	t.Helper()
	s, err := e.Converge(context1m(t), u, nil, nil)
	if err != nil {
		t.Fatalf("Converge: %v", err)
	}
	return s
}

func wantError(t testing.TB, err error, code faas.Code, words ...string) {
	t.Helper()
	if faas.CodeOf(err) != code {
		t.Fatalf("got error %v (code %q), want code %q", err, faas.CodeOf(err), code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v", err), "the-secret-value") || strings.Contains(err.Error(), "secret-signature") {
		t.Errorf("the error holds a secret: %v", err)
	}
}

// once returns an interceptor that acts on the first n requests that match.
func once(n int64, match string, act http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Method+" "+r.URL.Path, match) || seen.Add(1) > n {
			return false
		}
		act(w, r)
		return true
	}
}

func answer(status int, code, message string, info ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { gcptest.Fail(w, status, code, message, info...) }
}

func TestFunctionsThatShareAPackageShareOneUpload(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "share"))
	var group sync.WaitGroup
	for _, u := range units(t, e, function(0), function(1), function(2)) {
		group.Go(func() {
			if _, err := e.Converge(context1m(t), u, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if calls := s.Calls("/signed/"); len(calls) != 1 {
		t.Errorf("uploads: %v", calls)
	}
}

func TestAnUnchangedFunctionCostsOneRead(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "unchanged"))
	u := units(t, e, function(0))[0]
	converge(t, e, u)
	other := open(t, config(s, "unchanged"))
	before := len(s.Calls())
	state, err := other.Observe(context1m(t), u.ID)
	if err != nil || !state.Current(u) {
		t.Errorf("state %+v, error %v: not current", state, err)
	}
	if calls := s.Calls()[before:]; len(calls) != 1 {
		t.Errorf("calls: %v", calls)
	}
}

func TestAChangeOfConfigurationUploadsNothingAndNamesWhatDiffers(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "change"))
	u := units(t, e, function(0))[0]
	converge(t, e, u)
	var mask string
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			mask = r.URL.Query().Get("updateMask")
		}
		return false
	}
	u.Functions[0].TimeoutSecs, u.Functions[0].KeepWarm = 90, 1
	converge(t, e, u)
	if want := "labels,serviceConfig.timeoutSeconds,serviceConfig.minInstanceCount"; mask != want {
		t.Errorf("mask %q, want %q", mask, want)
	}
	if calls := s.Calls("/signed/"); len(calls) != 1 {
		t.Errorf("uploads: %v", calls)
	}
}

func TestAnotherProviderOptionIsAnotherConfiguration(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "options"))
	u := units(t, e, function(0))[0]
	converge(t, e, u)
	e = open(t, config(s, "options", "concurrency=20", "labels=team=research"))
	state, err := e.Observe(context1m(t), u.ID)
	if err != nil || state.Current(u) {
		t.Fatalf("state %+v, error %v: is current", state, err)
	}
	converge(t, e, u)
	if state, err = e.Observe(context1m(t), u.ID); err != nil || !state.Current(u) {
		t.Errorf("state %+v, error %v: not current", state, err)
	}
}

func TestTroublesOfADeployment(t *testing.T) {
	runsHere(t)
	for name, test := range map[string]struct {
		intercept func(http.ResponseWriter, *http.Request) bool
		build     func() func(string, string) *gcptest.Status
		code      faas.Code // empty: it succeeds
		words     []string
	}{
		"a quota is left to the engine": {
			intercept: once(1, "POST /v2/projects/test-project/locations/us-central1/functions",
				answer(429, "RESOURCE_EXHAUSTED", "Quota exceeded")),
			code: faas.ErrThrottled, words: []string{"Quota exceeded"},
		},
		"an upload URL that has expired is asked for anew": {
			intercept: once(1, "PUT /signed/", func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "<Error><Code>ExpiredToken</Code></Error>", http.StatusBadRequest)
			}),
		},
		"an upload that stays refused is an error": {
			intercept: once(99, "PUT /signed/", func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
			}),
			code: faas.ErrPermissionDenied, words: []string{"AccessDenied"},
		},
		"an API that is unavailable for a moment is called again": {
			intercept: once(2, "generateUploadUrl", answer(503, "UNAVAILABLE", "try again"))},
		"a busy function is waited for": {intercept: once(2, "/functions", func(w http.ResponseWriter, r *http.Request) {
			gcptest.Fail(w, 409, "ABORTED", "unable to queue the operation")
		})},
		"a failed precondition is waited out": {
			intercept: once(1, "POST /v2/projects/test-project/locations/us-central1/functions",
				answer(400, "FAILED_PRECONDITION", "another operation is in progress")),
		},
		"a build error has the build's words and where its log is": {
			build: func() func(string, string) *gcptest.Status {
				return func(string, string) *gcptest.Status {
					return &gcptest.Status{Code: 3, Message: "Build failed", Build: "job.go:1: expected the-secret-value"}
				}
			},
			code: faas.ErrInvalidArgument, words: []string{
				"Build failed", "job.go:1: expected", "https://console.cloud.google.com/cloud-build/"},
		},
		"an operation that fails half-way is an error": {
			build: func() func(string, string) *gcptest.Status {
				return func(string, string) *gcptest.Status {
					return &gcptest.Status{Code: 13, Message: "an internal error has occurred"}
				}
			},
			code: faas.ErrUnavailable, words: []string{"an internal error has occurred"},
		},
		"an API that is not enabled is named with its remedy": {
			intercept: once(1, "GET /v2/", answer(403, "PERMISSION_DENIED", "Cloud Functions API has not been used",
				"SERVICE_DISABLED", "service", "cloudfunctions.googleapis.com")),
			code: faas.ErrPermissionDenied, words: []string{
				"gcloud services enable cloudfunctions.googleapis.com --project=test-project"},
		},
		"a missing permission is named with its remedy": {
			intercept: once(1, "generateUploadUrl", answer(
				403, "PERMISSION_DENIED", "Permission 'cloudfunctions.functions.sourceCodeSet' denied on resource")),
			code: faas.ErrPermissionDenied, words: []string{"--role=roles/cloudfunctions.developer"},
		},
		"a missing actAs is named with its remedy": {
			intercept: once(1, "POST /v2/projects/test-project/locations/us-central1/functions",
				answer(403, "PERMISSION_DENIED", "Caller is missing permission 'iam.serviceAccounts.actAs' on service account x")),
			code: faas.ErrPermissionDenied, words: []string{
				"gcloud iam service-accounts add-iam-policy-binding", "roles/iam.serviceAccountUser"},
		},
		"an answer that repeats the environment is cleaned": {
			intercept: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Get("functionId") == "" {
					return false
				}
				gcptest.Fail(w, 400, "INVALID_ARGUMENT", "environment variable KEY=the-secret-value is not valid")
				return true
			},
			code: faas.ErrInvalidArgument, words: []string{"KEY=(hidden) is"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gcptest.Start(t, builder)
			e := open(t, config(s, "trouble"))
			u := units(t, e, function(0))[0]
			s.Intercept = test.intercept
			if test.build != nil {
				s.Build = test.build()
			}
			_, err := e.Converge(context1m(t), u, nil, nil)
			if test.code != "" {
				wantError(t, err, test.code, test.words...)
				if !errors.As(err, new(*apierror.APIError)) {
					t.Errorf("the API's error is not reachable: %v", err)
				}
				s.Intercept, s.Build = nil, nil
				_, err = e.Converge(context1m(t), u, nil, nil)
			}
			if err != nil {
				t.Fatalf("Converge: %v", err)
			}
			if r, err := e.Invoke(context1m(t), 0, []byte("hello")); err != nil || string(r.Output) != "hello" {
				t.Errorf("Invoke: %v, %v", r, err)
			}
			if err := e.Remove(context1m(t), u.ID); err != nil {
				t.Errorf("Remove: %v", err)
			}
		})
	}
}

func TestAFunctionThatAppearsMeanwhileIsUpdated(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "race"))
	u := units(t, e, function(0))[0]
	// The first look does not find the function although it exists, so the operation ends with
	// ALREADY_EXISTS.
	converge(t, open(t, config(s, "race")), u)
	s.Intercept = once(1, "GET /v2/projects/test-project/locations/us-central1/functions/race-job0",
		answer(404, "NOT_FOUND", "not found"))
	u.Functions[0].TimeoutSecs = 61
	if state := converge(t, e, u); !state.Current(u) {
		t.Errorf("state %+v is not current", state)
	}
}

func TestSignedHeadersAreSent(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.SignLengthRange = true
	e := open(t, config(s, "signed"))
	converge(t, e, units(t, e, function(0))[0])
}

func TestAnUploadThatGoogleDroppedIsRepeated(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "dropped"))
	all := units(t, e, function(0), function(1))
	converge(t, e, all[0])
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("functionId") != all[1].ID || len(s.Calls("/signed/")) > 1 {
			return false
		}
		gcptest.Fail(w, 400, "INVALID_ARGUMENT", "Could not read the source archive")
		return true
	}
	converge(t, e, all[1])
	if calls := s.Calls("/signed/"); len(calls) != 2 {
		t.Errorf("uploads: %v", calls)
	}
}

func TestALostAnswerIsLookedAfter(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	base := http.DefaultTransport.(*http.Transport).Clone()
	defer base.CloseIdleConnections()
	var lost atomic.Int64
	cfg := config(s, "lost")
	cfg.HTTPClient = &http.Client{Transport: faastest.FaultyTransport(base, func(r *http.Request) *faastest.Fault {
		if r.URL.Query().Get("functionId") != "" && lost.Add(1) == 1 {
			return &faastest.Fault{Kind: faastest.LostAnswer}
		}
		return nil
	})}
	e := open(t, cfg)
	u := units(t, e, function(0))[0]
	if state := converge(t, e, u); !state.Current(u) || lost.Load() != 1 {
		t.Errorf("state %+v after %d creations", state, lost.Load())
	}
}

func TestAFunctionOfSomebodyElseIsAdoptedOnlyWhenAskedTo(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "adopt"))
	u := units(t, e, function(0))[0]
	converge(t, e, u)
	s.Relabel("projects/test-project/locations/us-central1/functions/"+u.ID,
		map[string]string{"deployment-tool": "cli-gcloud"})
	_, err := e.Observe(context1m(t), u.ID)
	wantError(t, err, faas.ErrConflict, "option adopt")
	e = open(t, config(s, "adopt", "adopt=true"))
	if state, err := e.Observe(context1m(t), u.ID); err != nil || state.Current(u) {
		t.Fatalf("state %+v, error %v", state, err)
	}
	if state := converge(t, e, u); !state.Current(u) {
		t.Errorf("state %+v is not current", state)
	}
	s.Relabel("projects/test-project/locations/us-central1/functions/"+u.ID,
		map[string]string{"blueprint-service": "another"})
	_, err = e.Observe(context1m(t), u.ID)
	wantError(t, err, faas.ErrConflict, `"another"`)
}

func TestAPackageThatLostItsPermissionsRuns(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.LoseExecutable = true
	e := open(t, config(s, "modes"))
	converge(t, e, units(t, e, function(0))[0])
	if r, err := e.Invoke(context1m(t), 0, []byte("x")); err != nil || string(r.Output) != "x" {
		t.Errorf("Invoke: %v, %v", r, err)
	}
}

func TestTheNewestRuntimeOnOfferIsUsed(t *testing.T) {
	runsHere(t)
	for name, test := range map[string]struct {
		options []string
		refuse  http.HandlerFunc
		want    string
	}{
		"newest generally available": {want: "go126"},
		"asked for":                  {options: []string{"runtime=go125"}, want: "go125"},
		"not told":                   {refuse: answer(403, "PERMISSION_DENIED", "no"), want: "go125"},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			if test.refuse != nil {
				s.Intercept = once(9, "/runtimes", test.refuse)
			}
			e := open(t, config(s, "runtime", test.options...))
			state := converge(t, e, units(t, e, function(0))[0])
			if !strings.Contains(string(state.Private), `"runtime":"`+test.want+`"`) {
				t.Errorf("private is %s, want runtime %s", state.Private, test.want)
			}
		})
	}
}

func TestRestoreFromTheSourceThatGoogleKeeps(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "restore"))
	one := packed(t, e, script(t, valueBinary), function(0))[0]
	converge(t, e, one)
	prior, err := e.Observe(context1m(t), one.ID)
	if err != nil {
		t.Fatal(err)
	}
	changed := function(0)
	changed.Env = faas.NewEnv(map[string]string{"KEY": "two"})
	converge(t, e, packed(t, e, script(t, plainBinary), changed)[0])
	one.Package = nil
	if err := e.Restore(context1m(t), prior); err != nil {
		t.Fatalf("Restore: %v", err)
	}
	now, err := e.Observe(context1m(t), one.ID)
	if err != nil || now.PackageSHA256 != prior.PackageSHA256 || now.Fingerprint != prior.Fingerprint {
		t.Errorf("state %+v, error %v; want %+v", now, err, prior)
	}
	if calls := s.Calls("/signed/"); len(calls) != 2 {
		t.Errorf("uploads: %v", calls)
	}
	if text := fmt.Sprintf("%+v %#v", e, []any{e}); strings.Contains(text, "the-secret-value") {
		t.Errorf("the executor prints what it keeps: %s", text)
	}
}

// Another process knows the code of a state, but not its environment.
func TestRestoreOfAnotherProcessSaysWhatItCannotPutBack(t *testing.T) {
	runsHere(t)
	for name, test := range map[string]struct {
		value string
		code  faas.Code
	}{
		"other code":                   {value: "one"},
		"other code and configuration": {value: "two", code: faas.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			e := open(t, config(s, "restore"))
			with := func(value string) faas.Function {
				f := function(0)
				f.Env = faas.NewEnv(map[string]string{"VALUE": value})
				return f
			}
			prior := converge(t, e, packed(t, e, script(t, valueBinary), with("one"))[0])
			converge(t, e, packed(t, e, script(t, plainBinary), with(test.value))[0])
			other := open(t, config(s, "restore"))
			err := other.Restore(context1m(t), prior)
			if test.code != "" {
				wantError(t, err, test.code, "earlier code but not its earlier configuration")
			} else if err != nil {
				t.Fatal(err)
			}
			if now, err := other.Observe(context1m(t), prior.ID); err != nil || now.PackageSHA256 != prior.PackageSHA256 {
				t.Errorf("state %+v, error %v: not the earlier code", now, err)
			}
		})
	}
}

// Whoever could invoke a function earlier can do so after Restore.
func TestRestorePutsTheInvokersBack(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	u := units(t, open(t, config(s, "bindings")), function(0))[0]
	converge(t, open(t, config(s, "bindings", "public=true")), u)
	const service = "projects/test-project/locations/us-central1/services/bindings-job0"
	s.SetPolicy(service, "roles/run.invoker", "user:a@example.com")
	e := open(t, config(s, "bindings", "invokers=user:b@example.com"))
	prior, err := e.Observe(context1m(t), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Allowed(service, "roles/run.invoker")
	converge(t, e, u)
	if now := s.Allowed(service, "roles/run.invoker"); slices.Contains(now, "allUsers") ||
		!slices.Contains(now, "user:b@example.com") {
		t.Fatalf("invokers after the update: %v", now)
	}
	if err := e.Restore(context1m(t), prior); err != nil {
		t.Fatal(err)
	}
	now := s.Allowed(service, "roles/run.invoker")
	slices.Sort(before)
	slices.Sort(now)
	if diff := cmp.Diff(before, now); diff != "" {
		t.Errorf("invokers (-before +after):\n%s", diff)
	}
}

// Google deletes old sources. Restore then fails with an error that says so.
func TestRestoreWithoutTheEarlierSourceIsAnError(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "pruned"))
	prior := converge(t, e, packed(t, e, script(t, valueBinary), function(0))[0])
	converge(t, e, packed(t, e, script(t, plainBinary), function(0))[0])
	s.DropSources()
	err := e.Restore(context1m(t), prior)
	wantError(t, err, faas.ErrInvalidArgument, "the earlier source is refused", "object was not found")
}

func TestAStateThatCannotBePutBackSaysSo(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	s.Build = func(string, string) *gcptest.Status { return &gcptest.Status{Code: 3, Message: "Build failed"} }
	e := open(t, config(s, "broken"))
	u := units(t, e, function(0))[0]
	if _, err := e.Converge(context1m(t), u, nil, nil); err == nil {
		t.Fatal("no error")
	}
	s.Build = nil
	prior, err := e.Observe(context1m(t), u.ID)
	if err != nil || prior.Status != faas.StatusFailed || prior.NotRestorable == "" {
		t.Fatalf("state %+v, error %v", prior, err)
	}
	if err := e.Restore(context1m(t), prior); err != nil {
		t.Errorf("what was not changed: %v", err)
	}
	converge(t, e, u)
	wantError(t, e.Restore(context1m(t), prior), faas.ErrUnsupported, prior.NotRestorable)
}

// The service that runs a function has the function's name and labels, but is not ours in mode
// cloud-run.
func TestTheServiceOfAFunctionIsNotTakenOver(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "modes"))
	u := units(t, e, function(0))[0]
	converge(t, e, u)
	run := open(t, config(s, "modes", "mode=cloud-run", "bucket=test-bucket"))
	_, err := run.Observe(context1m(t), u.ID)
	wantError(t, err, faas.ErrConflict, "belongs to a Cloud Function")
	if err := e.Remove(context1m(t), u.ID); err != nil {
		t.Fatal(err)
	}
	r := units(t, run, function(0))[0]
	converge(t, run, r)
	_, err = e.Converge(context1m(t), u, nil, nil)
	wantError(t, err, faas.ErrConflict, "Cloud Run service with this name already exists")
	if err := e.Remove(context1m(t), u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Observe(context1m(t), r.ID); err != nil {
		t.Errorf("the service is gone: %v", err)
	}
}

// A runtime that this module chose is replaced by any update once it cannot be deployed any more.
func TestADecommissionedRuntimeIsReplaced(t *testing.T) {
	runsHere(t)
	for name, options := range map[string][]string{"it is over": nil, "another one is asked for": {"runtime=go126"}} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			s.Runtimes = []gcptest.Runtime{{Name: "go125", Stage: "GA", Environment: "GEN_2"}}
			e := open(t, config(s, "over"))
			u := units(t, e, function(0))[0]
			converge(t, e, u)
			s.Runtimes = []gcptest.Runtime{{Name: "go125", Stage: "DECOMMISSIONED", Environment: "GEN_2"},
				{Name: "go126", Stage: "GA", Environment: "GEN_2"}}
			if options != nil {
				s.Runtimes[0].Stage = "DEPRECATED"
			}
			e = open(t, config(s, "over", options...))
			u.Functions[0].TimeoutSecs = 61
			if state := converge(t, e, u); !strings.Contains(string(state.Private), `"runtime":"go126"`) {
				t.Errorf("private is %s", state.Private)
			}
		})
	}
}

// A value is hidden even if Google cuts it off or puts it into a reason.
func TestValuesOfTheEnvironmentAreHiddenBeforeATextIsCut(t *testing.T) {
	runsHere(t)
	const secret = "the-secret-value-" + "0123456789+/&=abcdefghijklmnopqrstuvwxyz"
	f := function(0)
	f.Env = faas.NewEnv(map[string]string{"KEY": secret})
	for name, text := range map[string]string{
		"in base64":                   "config " + base64.StdEncoding.EncodeToString([]byte(`{"KEY":"`+secret+`"}`)),
		"in a URL":                    "?key=" + url.QueryEscape(secret),
		"across the end of a message": strings.Repeat("x", 1480) + " " + secret,
		"as a whole":                  "KEY=" + secret + " is not valid",
	} {
		t.Run(name, func(t *testing.T) {
			s := gcptest.Start(t, builder)
			e := open(t, config(s, "cut"))
			u := units(t, e, f)[0]
			s.Build = func(string, string) *gcptest.Status {
				return &gcptest.Status{Code: 3, Message: text, Build: text,
					Details: []any{detail("BadRequest", "fieldViolations",
						[]any{map[string]string{"field": "env", "description": text}})}}
			}
			_, err := e.Converge(context1m(t), u, nil, nil)
			var api *apierror.APIError
			if !errors.As(err, &api) {
				t.Fatal(err)
			}
			if all := fmt.Sprintf("%v %+v %v", err, api, api.Details()); strings.Contains(all, "the-secret") ||
				!strings.Contains(all, "(hidden)") {
				t.Errorf("the error holds a secret: %s", all)
			}
		})
	}
}

func TestListReadsEveryPage(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "pages"))
	all := units(t, e, function(0), function(1), function(2), function(10), function(11))
	for _, u := range all {
		converge(t, e, u)
	}
	states, err := e.List(context1m(t))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, state := range states {
		ids = append(ids, state.ID)
	}
	if len(ids) != len(all) || !slices.IsSorted(ids) {
		t.Errorf("got %v", ids)
	}
}

// Earlier versions leave their packages in the bucket. Here they fill more than one page of a list.
func TestCloudRunPackagesGoWithTheLastFunction(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "packages", "mode=cloud-run", "bucket=test-bucket"))
	for _, name := range []string{"packages/us-central1/1.zip", "packages/us-central1/2.zip",
		"packages/us-central1/3.zip", "other/us-central1/1.zip"} {
		resp, err := http.Post(s.URL+"/upload/storage/v1/b/test-bucket/o?uploadType=media&name="+
			url.QueryEscape("blueprint-serverless/"+name), "application/zip", strings.NewReader("zip"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	all := units(t, e, function(0), function(1))
	for _, u := range all {
		converge(t, e, u)
	}
	if err := e.Remove(context1m(t), all[0].ID); err != nil {
		t.Fatal(err)
	}
	if got := len(s.Objects()); got != 5 {
		t.Errorf("with a function left, the bucket has %d objects, want 5: %v", got, s.Objects())
	}
	if err := e.Remove(context1m(t), all[1].ID); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"test-bucket/blueprint-serverless/other/us-central1/1.zip"}, s.Objects()); diff != "" {
		t.Errorf("objects after the last function went (-want +got):\n%s", diff)
	}
}

// A list may be out of date. The packages of existing functions stay.
func TestOneEmptyListRemovesNoPackages(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "lists", "mode=cloud-run", "bucket=test-bucket"))
	all := units(t, e, function(0), function(1))
	for _, u := range all {
		converge(t, e, u)
	}
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/services") {
			return false
		}
		_, _ = w.Write([]byte("{}"))
		return true
	}
	if err := e.Remove(context1m(t), all[0].ID); err != nil {
		t.Fatal(err)
	}
	if len(s.Objects()) != 1 {
		t.Errorf("the bucket has %v", s.Objects())
	}
}
