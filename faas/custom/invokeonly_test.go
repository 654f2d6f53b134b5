package custom_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
)

// byHand is an invoke-only platform with functions for jobs 0 and 1.
func byHand(t *testing.T, otherwise int) (url string, log func() []string) {
	var requests []string
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Method+" "+r.URL.Path)
		w.WriteHeader(otherwise)
	})
	for _, path := range []string{"/job/0", "/job/1"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			requests = append(requests, r.Method+" "+r.URL.Path)
			switch r.Method {
			case http.MethodHead:
			case http.MethodPost:
				body, _ := io.ReadAll(r.Body)
				jobID, args, err := faas.ParseRequest(nil, body)
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(faas.AppendResponse(nil, &faas.Response{JobID: jobID, Result: args, Success: true}))
			default:
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
		})
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL, func() []string {
		got := requests
		requests = nil
		return got
	}
}

func TestDeployingToAnInvokeOnlyPlatformSaysWhatToDoByHand(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		url, _ := byHand(t, status)
		e := open(t, faas.Config{Endpoint: url})
		_, err := e.Converge(t.Context(), unit(t, e, small(secret)), nil, nil)
		if faas.CodeOf(err) != faas.ErrUnsupported {
			t.Fatalf("status %d: %v", status, err)
		}
		for _, want := range []string{"invoke-only", "by hand", "job 0", url + "/job/0", "job_id", "HEAD", "option mode"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("status %d: the error does not say %q: %v", status, want, err)
			}
		}
		if holds(err, secret) {
			t.Errorf("the error shows the environment: %v", err)
		}
	}
}

func TestInvokingFindsOutThatAPlatformIsInvokeOnly(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		url, log := byHand(t, status)
		e := open(t, faas.Config{Endpoint: url})
		for _, want := range [][]string{
			{"POST /api/functions/svc-job1/invoke", "HEAD /job/1", "POST /job/1"},
			{"POST /job/1"},
		} {
			r, err := e.Invoke(t.Context(), 1, []byte("hi"))
			if err != nil || string(r.Output) != "hi" {
				t.Fatalf("status %d: %v, %v", status, r, err)
			}
			if diff := cmp.Diff(want, log()); diff != "" {
				t.Errorf("status %d (-want +got):\n%s", status, diff)
			}
		}
	}
}

func TestAMissingFunctionOfADeployingPlatformIsNotFound(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	for range 2 {
		if _, err := e.Invoke(t.Context(), 5, nil); faas.CodeOf(err) != faas.ErrNotFound {
			t.Fatal(err)
		}
	}
	deploy(t, e, small("one"))
	p.requests()
	if _, err := e.Invoke(t.Context(), 5, nil); faas.CodeOf(err) != faas.ErrNotFound {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"POST /api/functions/svc-job5/invoke"}, p.requests()); diff != "" {
		t.Errorf("once it is known to deploy (-want +got):\n%s", diff)
	}
}

func TestInvokeOnlyModeChangesNothing(t *testing.T) {
	url, log := byHand(t, http.StatusNotFound)
	for name, options := range map[string]map[string]string{
		"mode":       {"mode": "invoke-only"},
		"template":   {"invoke_url": url + "/job/{job_id}"},
		"single URL": {"invoke_urls": "0=" + url + "/job/0, 1=" + url + "/job/1"},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, faas.Config{Endpoint: url, Options: options})
			u := unit(t, e, small("one"))
			state, err := e.Converge(t.Context(), u, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := faas.State{ID: "svc-job0", Status: faas.StatusReady, Resource: url + "/job/0", Endpoint: url + "/job/0",
				JobIDs: []uint32{0}}
			if diff := cmp.Diff(want, state); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			if err := e.Restore(t.Context(), state); err != nil {
				t.Error(err)
			}
			if err := e.Remove(t.Context(), u.ID); err != nil {
				t.Error(err)
			}
			if h, err := e.Health(t.Context(), 0); err != nil || !h.Healthy {
				t.Errorf("Health: %+v, %v", h, err)
			}
			if _, err := e.List(t.Context()); faas.CodeOf(err) != faas.ErrUnsupported {
				t.Errorf("List: %v", err)
			}
			if _, err := e.Warm(t.Context(), 0, 1); faas.CodeOf(err) != faas.ErrUnsupported {
				t.Errorf("Warm: %v", err)
			}
			if r, err := e.Invoke(t.Context(), 1, []byte("hi")); err != nil || string(r.Output) != "hi" {
				t.Errorf("Invoke: %v, %v", r, err)
			}
			for _, request := range log() {
				if request != "HEAD /job/0" && request != "POST /job/1" {
					t.Errorf("request %s", request)
				}
			}
			_, err = e.Observe(t.Context(), "svc-job5")
			if faas.CodeOf(err) != faas.ErrNotFound {
				t.Errorf("Observe of what is not there: %v", err)
			}
			log()
		})
	}
}

func TestHealthAndWarmThatAPlatformLacksAreUnsupported(t *testing.T) {
	p := newFake(t)
	p.noHealth, p.noWarm = true, true
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	check := func(want faas.Code) {
		t.Helper()
		_, health := e.Health(t.Context(), 0)
		_, warm := e.Warm(t.Context(), 0, 1)
		if faas.CodeOf(health) != want || faas.CodeOf(warm) != want {
			t.Errorf("Health: %v; Warm: %v; want code %q", health, warm, want)
		}
	}
	check(faas.ErrNotFound)
	deploy(t, e, small("one"))
	check(faas.ErrUnsupported)
}

func TestHealthTellsWhatThePlatformSays(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	deploy(t, e, small("one"))
	if _, err := e.Invoke(t.Context(), 0, nil); err != nil {
		t.Fatal(err)
	}
	h, err := e.Health(t.Context(), 0)
	if err != nil || !h.Healthy || h.TotalInvocations != 1 || h.LastInvocation.IsZero() {
		t.Errorf("got %+v, %v", h, err)
	}
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		answer(w, http.StatusServiceUnavailable, map[string]any{
			"function_id": "svc-job0", "status": "unhealthy", "error": "out of disk"})
		return true
	}
	if h, err := e.Health(t.Context(), 0); err != nil || h.Healthy || h.Reason != "out of disk" {
		t.Errorf("got %+v, %v", h, err)
	}
}

// A front page that answers HEAD everywhere must not turn a removal into a no-op.
func TestAGuessFromAnInvocationNeverStopsARemoval(t *testing.T) {
	deleted := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead:
		case r.Method == http.MethodDelete:
			deleted++
			_, _ = w.Write([]byte(`{"function_id":"svc-job1","status":"deleted"}`))
		case r.URL.Path == "/api/functions/svc-job1" && deleted == 0:
			_, _ = w.Write([]byte(`{"function_id":"svc-job1","status":"deployed"}`))
		case r.URL.Path == "/job/0" && r.Method == http.MethodPost:
			_, _ = w.Write([]byte(`{"result":[1]}`))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	exec, err := custom.New(t.Context(), faas.Config{Provider: faas.Custom, Service: "svc", Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Close()
	if _, err := exec.Invoke(t.Context(), 0, nil); err != nil {
		t.Errorf("the job's own address was not found: %v", err)
	}
	if err := exec.Remove(t.Context(), "svc-job1"); err != nil || deleted != 1 {
		t.Errorf("error %v, %d deletions, want 1", err, deleted)
	}
}

func TestAnInvokeOnlyPlatformWhoseFunctionFailsIsNotDeployed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer server.Close()
	exec, err := custom.New(t.Context(), faas.Config{
		Provider: faas.Custom, Service: "svc", Endpoint: server.URL, Options: map[string]string{"mode": "invoke-only"}})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Close()
	unit := faas.Unit{ID: "svc-job0", Functions: []faas.Function{{JobID: 0, MemoryMB: 128, TimeoutSecs: 1}}}
	if _, err := exec.Converge(t.Context(), unit, nil, nil); !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("error %v, want unavailable", err)
	}
}
