package custom_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
)

// script returns a small job binary.
func script(t testing.TB) *faas.Binary {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '{\"result\":[]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := faas.InspectBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// unit returns the unit of one function, with its package.
func unit(t testing.TB, e faas.Executor, f faas.Function) faas.Unit {
	t.Helper()
	units, err := e.Units(script(t), []faas.Function{f})
	if err != nil {
		t.Fatal(err)
	}
	if units[0].Package, err = faas.BuildPackage(t.Context(), t.TempDir(), units[0].Files); err != nil {
		t.Fatal(err)
	}
	return units[0]
}

func deploy(t testing.TB, e faas.Executor, f faas.Function) faas.Unit {
	t.Helper()
	u := unit(t, e, f)
	if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
		t.Fatal(err)
	}
	return u
}

func small(value string) faas.Function {
	return faas.Function{JobID: 0, MemoryMB: 128, TimeoutSecs: 5, Env: faas.NewEnv(map[string]string{"VALUE": value})}
}

const path = "/api/functions/svc-job0"

func TestConvergeSendsNoMoreThanItHasTo(t *testing.T) {
	for name, test := range map[string]struct {
		extended                   bool
		create, unchanged, changed []string
	}{
		"plain": {false,
			[]string{"GET " + path, "PUT " + path, "GET " + path, "GET " + path + "/health"},
			[]string{"GET " + path, "PUT " + path, "GET " + path, "DELETE " + path, "PUT " + path, "GET " + path,
				"GET " + path + "/health"},
			[]string{"GET " + path, "PUT " + path, "GET " + path, "DELETE " + path, "PUT " + path, "GET " + path,
				"GET " + path + "/health"},
		},
		"extended": {true,
			[]string{"GET " + path, "PUT " + path, "GET " + path, "GET " + path + "/health"},
			[]string{"GET " + path},
			[]string{"GET " + path, "PUT " + path, "GET " + path, "GET " + path + "/health"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFake(t)
			p.extended = test.extended
			e := open(t, faas.Config{Endpoint: p.start(t).URL})
			u := deploy(t, e, small("one"))
			if diff := cmp.Diff(test.create, p.requests()); diff != "" {
				t.Errorf("to create (-want +got):\n%s", diff)
			}
			if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.unchanged, p.requests()); diff != "" {
				t.Errorf("where nothing changed (-want +got):\n%s", diff)
			}
			deploy(t, e, small("two"))
			if diff := cmp.Diff(test.changed, p.requests()); diff != "" {
				t.Errorf("to change (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConvergeReturnsWhatThePlatformSays(t *testing.T) {
	p := newFake(t)
	s := p.start(t)
	e := open(t, faas.Config{Endpoint: s.URL})
	u := unit(t, e, small("one"))
	got, err := e.Converge(t.Context(), u, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := p.functions["svc-job0"].deployedAt.UTC().Truncate(time.Second)
	want := faas.State{
		ID: "svc-job0", Status: faas.StatusReady, Resource: s.URL + path, Endpoint: s.URL + path + "/invoke",
		JobIDs:   []uint32{0},
		Revision: got.Revision, DeployedAt: at, ColdStart: 12 * time.Millisecond, NotRestorable: got.NotRestorable,
		Private: got.Private,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Revision == "" || got.NotRestorable == "" || stateHolds(t, got, "VALUE") {
		t.Errorf("the state is %+v", got)
	}
}

func TestAFunctionOfAnotherServiceIsLeftAlone(t *testing.T) {
	p := newFake(t)
	p.extended = true
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	u := deploy(t, e, small("one"))
	p.functions["svc-job0"].service = "other"
	p.requests()
	_, observe := e.Observe(t.Context(), u.ID)
	_, converge := e.Converge(t.Context(), u, nil, nil)
	for name, err := range map[string]error{"Observe": observe, "Converge": converge,
		"Remove": e.Remove(t.Context(), u.ID)} {
		if faas.CodeOf(err) != faas.ErrConflict || !strings.Contains(err.Error(), `"other"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.count("PUT") + p.count("DELETE"); n != 0 {
		t.Errorf("%d changes were sent", n)
	}
}

func TestAFunctionThatCouldNotBePutAgainIsSaidToBeGone(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	deploy(t, e, small("one"))
	p.requests()
	deleted := false
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			deleted = true
		}
		if r.Method == http.MethodPut && deleted {
			refuse(w, http.StatusForbidden, "quota of %s used up", "team")
			return true
		}
		return false
	}
	_, err := e.Converge(t.Context(), unit(t, e, small("two")), nil, nil)
	if faas.CodeOf(err) != faas.ErrPermissionDenied || !strings.Contains(err.Error(), "was deleted to be replaced") ||
		!strings.Contains(err.Error(), "quota of team used up") {
		t.Errorf("got %v", err)
	}
}

func TestAFunctionThatWasDeletedToBeReplacedIsPutDespiteTroubles(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	deploy(t, e, small("one"))
	troubles := []int{}
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodDelete:
			troubles = []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusConflict}
		case r.Method == http.MethodPut && len(troubles) > 0:
			refuse(w, troubles[0], "not now")
			troubles = troubles[1:]
			return true
		}
		return false
	}
	if _, err := e.Converge(t.Context(), unit(t, e, small("two")), nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := p.functions["svc-job0"].config.EnvVars["VALUE"]; got != "two" {
		t.Errorf("the function has %q", got)
	}
}

func TestAFunctionThatALatePUTBringsBackIsReplacedAgain(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	deploy(t, e, small("one"))
	old := p.functions["svc-job0"]
	deletions := 0
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			deletions++
		}
		if r.Method == http.MethodPut && deletions == 1 {
			p.functions["svc-job0"] = old
		}
		return false
	}
	if _, err := e.Converge(t.Context(), unit(t, e, small("two")), nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := p.functions["svc-job0"].config.EnvVars["VALUE"]; got != "two" || deletions != 2 {
		t.Errorf("after %d deletions the function has %q", deletions, got)
	}
}

func TestReadsAndChangesAreRepeatedWhileThePlatformIsUnavailable(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	failed := map[string]bool{}
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if key := r.Method + r.URL.Path; !failed[key] {
			failed[key] = true
			refuse(w, http.StatusServiceUnavailable, "starting")
			return true
		}
		return false
	}
	u := deploy(t, e, small("one"))
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Error(err)
	}
	if len(p.functions) != 0 {
		t.Error("the function is still there")
	}
}

func TestThrottlingIsLeftToTheCaller(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Retry-After", "3")
		refuse(w, http.StatusTooManyRequests, "slow down")
		return true
	}
	_, err := e.Observe(t.Context(), "svc-job0")
	if e := asError(t, err); e.Code != faas.ErrThrottled || e.RetryAfter != 3*time.Second {
		t.Errorf("got %v after %v", err, e.RetryAfter)
	}
	if got := p.requests(); len(got) != 1 {
		t.Errorf("requests: %q", got)
	}
}

func TestConvergeWaitsForHealth(t *testing.T) {
	p := newFake(t)
	p.extended = true
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	left := 3
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/health") && left > 0 {
			left--
			answer(w, http.StatusServiceUnavailable, map[string]any{
				"function_id": "svc-job0", "status": "unhealthy", "error": "starting"})
			return true
		}
		return false
	}
	deploy(t, e, small("one"))
	if left != 0 {
		t.Errorf("%d unhealthy answers were not waited out", left)
	}
}

func TestConvergeGivesUpOnAFunctionThatStaysUnhealthyOrFails(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   map[string]any
		below  string
		want   faas.Code
	}{
		"unhealthy": {http.StatusServiceUnavailable,
			map[string]any{"status": "unhealthy", "error": "no luck with " + secret}, "/health", faas.ErrTimeout},
		"failed": {http.StatusOK, map[string]any{
			"function_id": "svc-job0", "status": "failed", "error": "no luck with " + secret}, "", faas.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFake(t)
			e := open(t, faas.Config{Endpoint: p.start(t).URL, Options: map[string]string{"ready_timeout_secs": "1"}})
			p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && r.URL.Path == path+test.below && p.functions["svc-job0"] != nil {
					answer(w, test.status, test.body)
					return true
				}
				return false
			}
			_, err := e.Converge(t.Context(), unit(t, e, small(secret)), nil, nil)
			if faas.CodeOf(err) != test.want || !strings.Contains(err.Error(), "no luck with") || holds(err, secret) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnEnvironmentValueThatThePlatformRepeatsIsHidden(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			refuse(w, http.StatusBadRequest, "VALUE=%s is not allowed", secret)
			return true
		}
		return false
	}
	_, err := e.Converge(t.Context(), unit(t, e, small(secret)), nil, nil)
	if faas.CodeOf(err) != faas.ErrInvalidArgument || holds(err, secret) ||
		!strings.Contains(err.Error(), "is not allowed") {
		t.Errorf("got %v", err)
	}
}

func TestProgressEndsAtTheSizeOfThePackage(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	u := unit(t, e, small("one"))
	var steps []faas.Progress
	if _, err := e.Converge(t.Context(), u, nil, func(p faas.Progress) { steps = append(steps, p) }); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(steps, func(p faas.Progress) bool {
		return p.Step == "upload" && p.Bytes == u.Package.Size() && p.TotalBytes == p.Bytes
	})
	if i < 0 || steps[len(steps)-1].Step != "wait" {
		t.Errorf("steps are %+v, the package has %d bytes", steps, u.Package.Size())
	}
}

func TestConvergeWithACancelledContextIsTimeout(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Converge(ctx, unit(t, e, small("one")), nil, nil); faas.CodeOf(err) != faas.ErrTimeout {
		t.Errorf("got %v", err)
	}
}

func TestUnitsTakesOnlyWhatAPlatformCanRun(t *testing.T) {
	remote, local := open(t, faas.Config{Endpoint: "https://faas.example"}),
		open(t, faas.Config{Endpoint: "http://127.0.0.1:1"})
	linux := faas.Binary{Path: "/x", Size: 1, Format: faas.FormatELF, OS: "linux", Arch: faas.ARM64, Executable: true}
	with := func(f func(*faas.Binary)) *faas.Binary {
		b := linux
		f(&b)
		return &b
	}
	for name, test := range map[string]struct {
		e    *custom.Executor
		bin  *faas.Binary
		want faas.Code
	}{
		"linux": {remote, &linux, ""},
		"script": {remote, &faas.Binary{Path: "/x", Size: 1, Format: faas.FormatScript, Interpreter: "/bin/sh",
			Executable: true}, ""},
		"mac": {remote, with(func(b *faas.Binary) { b.Format, b.OS = faas.FormatMachO, "darwin" }),
			faas.ErrInvalidArgument},
		"windows": {remote, with(func(b *faas.Binary) { b.Format, b.OS = faas.FormatPE, "windows" }),
			faas.ErrInvalidArgument},
		"no executable": {remote, with(func(b *faas.Binary) { b.Format, b.OS = faas.FormatUnknown, "" }),
			faas.ErrInvalidArgument},
		"too large":    {remote, with(func(b *faas.Binary) { b.Size = 250<<20 + 1 }), faas.ErrTooLarge},
		"largest":      {remote, with(func(b *faas.Binary) { b.Size = 250 << 20 }), ""},
		"linux, local": {local, &linux, ""},
	} {
		if _, err := test.e.Units(test.bin, []faas.Function{small("one")}); faas.CodeOf(err) != test.want {
			t.Errorf("%s: %v, want code %q", name, err, test.want)
		}
	}
}

func TestUnitsBoundsTheEnvironment(t *testing.T) {
	e := open(t, faas.Config{Endpoint: "https://faas.example"})
	bin := &faas.Binary{Path: "/x", Size: 1, Format: faas.FormatELF, OS: "linux", Executable: true}
	for name, env := range map[string]map[string]string{
		"too large":         {"A": strings.Repeat(secret, 8<<10)},
		"NUL in the value":  {"A": secret + "\x00"},
		"no UTF-8":          {"A": secret + "\xff"},
		"equals in a name":  {"A=B": secret},
		"NUL in a name":     {"A\x00": secret},
		"no name":           {"": secret},
		"no UTF-8 in names": {"A\xff": secret},
	} {
		f := small("one")
		f.Env = faas.NewEnv(env)
		_, err := e.Units(bin, []faas.Function{f})
		if code := faas.CodeOf(err); code != faas.ErrInvalidArgument && code != faas.ErrTooLarge || holds(err, secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func asError(t testing.TB, err error) *faas.Error {
	t.Helper()
	e, ok := err.(*faas.Error)
	if !ok {
		t.Fatalf("got %T %v", err, err)
	}
	return e
}
