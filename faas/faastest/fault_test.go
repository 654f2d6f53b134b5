package faastest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// echo returns a cloud's executor with the echo job deployed, and its unit.
func echo(t testing.TB, opts ...faastest.MemoryOption) (*faastest.Cloud, *faastest.MemoryExecutor, faas.Unit) {
	t.Helper()
	cloud := faastest.NewMemory(opts...)
	exec := cloud.Executor("svc")
	units, err := exec.Units(script(t), []faas.Function{{JobID: faastest.JobEcho, MemoryMB: 128, TimeoutSecs: 5}})
	if err != nil {
		t.Fatal(err)
	}
	if units[0].Package, err = faas.BuildPackage(t.Context(), t.TempDir(), units[0].Files); err != nil {
		t.Fatal(err)
	}
	return cloud, exec, units[0]
}

func TestFaultyStrikesBeforeOrAfterTheCall(t *testing.T) {
	for kind, test := range map[faastest.FaultKind]struct {
		code    faas.Code
		happens bool
	}{
		faastest.Throttled:   {faas.ErrThrottled, false},
		faastest.Conflict:    {faas.ErrConflict, false},
		faastest.Denied:      {faas.ErrPermissionDenied, false},
		faastest.Unavailable: {faas.ErrUnavailable, false},
		faastest.Hang:        {faas.ErrTimeout, false},
		faastest.TimedOut:    {faas.ErrTimeout, true},
		faastest.LostAnswer:  {faas.ErrUnavailable, true},
	} {
		t.Run(string(kind), func(t *testing.T) {
			cloud, inner, u := echo(t)
			exec := faastest.Faulty(inner, faastest.Faults(
				faastest.Rule{Op: faastest.OpConverge, Times: 1, Fault: faastest.Fault{Kind: kind, RetryAfter: time.Second}}))
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if kind != faastest.Hang {
				cancel()
				ctx, cancel = context.WithCancel(t.Context())
			}
			defer cancel()
			_, err := exec.Converge(ctx, u, nil, nil)
			var e *faas.Error
			if !errors.As(err, &e) || e.Code != test.code || e.RetryAfter != time.Second {
				t.Errorf("got %v, want code %q", err, test.code)
			}
			if happened := len(cloud.Units()) == 1; happened != test.happens {
				t.Errorf("the call took effect: %v, want %v", happened, test.happens)
			}
			if _, err := exec.Converge(t.Context(), u, nil, nil); err != nil {
				t.Errorf("the second call: %v", err)
			}
		})
	}
}

func TestFaultyPassesOnWhatOnlySomeProvidersOffer(t *testing.T) {
	_, full, u := echo(t)
	if _, err := full.Converge(t.Context(), u, nil, nil); err != nil {
		t.Fatal(err)
	}
	exec := faastest.Faulty(full, faastest.Faults(
		faastest.Rule{Op: faastest.OpWarm, Fault: faastest.Fault{Kind: faastest.Throttled}}))
	if _, err := exec.Warm(t.Context(), faastest.JobEcho, 1); faas.CodeOf(err) != faas.ErrThrottled {
		t.Errorf("Warm: %v", err)
	}
	if h, err := exec.Health(t.Context(), faastest.JobEcho); err != nil || !h.Healthy {
		t.Errorf("Health: %+v, %v", h, err)
	}
	plain := faastest.Faulty(basic{full}, nil)
	if _, err := plain.Warm(t.Context(), faastest.JobEcho, 1); faas.CodeOf(err) != faas.ErrUnsupported {
		t.Errorf("Warm of an executor that cannot warm: %v", err)
	}
}

// basic is an executor that cannot warm.
type basic struct{ faas.Executor }

func (basic) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	return faas.Unimplemented{}.Warm(ctx, jobID, n)
}

func TestFaultsCountsByRule(t *testing.T) {
	script := faastest.Faults(
		faastest.Rule{Op: faastest.OpRemove, Unit: "a", Skip: 1, Times: 2, Fault: faastest.Fault{Kind: faastest.Conflict}},
		faastest.Rule{Op: faastest.OpRemove, Unit: "b", Fault: faastest.Fault{Kind: faastest.Denied}},
	)
	var got []string
	for _, unit := range []string{"a", "a", "b", "a", "a", "c"} {
		kind := "-"
		if f := script(faastest.Call{Op: faastest.OpRemove, Unit: unit}); f != nil {
			kind = string(f.Kind)
		}
		got = append(got, kind)
	}
	if want := "- conflict denied conflict - -"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestFaultyTransport(t *testing.T) {
	var served atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served.Add(1) }))
	defer server.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	for kind, test := range map[faastest.FaultKind]struct {
		status  int // 0: an error
		served  int32
		timeout bool
	}{
		"":                   {http.StatusOK, 1, false},
		faastest.Throttled:   {http.StatusTooManyRequests, 0, false},
		faastest.Conflict:    {http.StatusConflict, 0, false},
		faastest.Denied:      {http.StatusForbidden, 0, false},
		faastest.Unavailable: {http.StatusServiceUnavailable, 0, false},
		faastest.Hang:        {0, 0, true},
		faastest.TimedOut:    {0, 1, true},
		faastest.LostAnswer:  {0, 1, false},
	} {
		t.Run(string(kind), func(t *testing.T) {
			served.Store(0)
			client := &http.Client{Transport: faastest.FaultyTransport(base, func(*http.Request) *faastest.Fault {
				if kind == "" {
					return nil
				}
				return &faastest.Fault{Kind: kind, RetryAfter: 1500 * time.Millisecond}
			})}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if kind == faastest.Hang {
				ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err == nil {
				defer resp.Body.Close()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Error(err)
				}
				if resp.StatusCode != test.status || kind != "" && resp.Header.Get("Retry-After") != "2" {
					t.Errorf("status %d and header %v, want status %d", resp.StatusCode, resp.Header, test.status)
				}
			} else {
				var netErr net.Error
				if test.status != 0 || !errors.As(err, &netErr) || netErr.Timeout() != test.timeout {
					t.Errorf("got %v", err)
				}
			}
			if served.Load() != test.served {
				t.Errorf("the server saw %d requests, want %d", served.Load(), test.served)
			}
		})
	}
}

func TestTheCloudThrottlesWritesAndSaysHowLong(t *testing.T) {
	bin := script(t)
	synctest.Test(t, func(t *testing.T) {
		exec := faastest.NewMemory(faastest.WithWriteThrottle(2)).Executor("svc")
		units, err := exec.Units(bin, []faas.Function{{JobID: 0, MemoryMB: 128, TimeoutSecs: 5}})
		if err != nil {
			t.Fatal(err)
		}
		remove := func() *faas.Error {
			var e *faas.Error
			errors.As(exec.Remove(t.Context(), units[0].ID), &e)
			return e
		}
		for range 2 {
			if err := remove(); err != nil {
				t.Fatalf("within the limit: %v", err)
			}
		}
		err3 := remove()
		if err3 == nil || err3.Code != faas.ErrThrottled || err3.RetryAfter <= 0 {
			t.Fatalf("above the limit: %v", err3)
		}
		time.Sleep(err3.RetryAfter)
		if err := remove(); err != nil {
			t.Errorf("after the wait that was asked for: %v", err)
		}
	})
}

func TestTheCloudRefusesTwoChangesOfOneUnitAtATime(t *testing.T) {
	_, _, u := echo(t)
	synctest.Test(t, func(t *testing.T) {
		cloud := faastest.NewMemory(faastest.WithLatency(time.Second))
		exec := cloud.Executor("svc")
		done := make(chan error, 1)
		go func() {
			_, err := exec.Converge(t.Context(), u, nil, nil)
			done <- err
		}()
		time.Sleep(500 * time.Millisecond)
		if _, err := exec.Converge(t.Context(), u, nil, nil); faas.CodeOf(err) != faas.ErrConflict {
			t.Errorf("got %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if cloud.PeakWrites() != 1 || cloud.Calls(faastest.OpConverge) != 2 || cloud.Uploads() != 1 {
			t.Errorf("%d writes at a time, %d calls, %d uploads", cloud.PeakWrites(), cloud.Calls(faastest.OpConverge),
				cloud.Uploads())
		}
	})
}

func TestAChangeThatStopsHalfwayLeavesAFailedUnitThatConvergeMends(t *testing.T) {
	_, exec, u := echo(t, faastest.WithScript(faastest.Faults(
		faastest.Rule{Op: faastest.OpConverge, Times: 1, Fault: faastest.Fault{Kind: faastest.Halfway}})))
	if _, err := exec.Converge(t.Context(), u, nil, nil); faas.CodeOf(err) != faas.ErrUnavailable {
		t.Fatalf("got %v", err)
	}
	state, err := exec.Observe(t.Context(), u.ID)
	if err != nil || state.Status != faas.StatusFailed || state.Current(u) {
		t.Fatalf("got %+v, %v", state, err)
	}
	if _, err := exec.Converge(t.Context(), u, &state, nil); err != nil {
		t.Fatal(err)
	}
	if r, err := exec.Invoke(t.Context(), faastest.JobEcho, []byte("x")); err != nil || string(r.Output) != "x" {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestReadsThatAreBehind(t *testing.T) {
	var body atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := body.Load().(string)
		if text == "" {
			http.Error(w, "its own words", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, text) // the client tells
	}))
	defer server.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	var fault *faastest.Fault
	client := &http.Client{Transport: faastest.FaultyTransport(base, func(*http.Request) *faastest.Fault { return fault })}
	get := func(kind faastest.FaultKind) string {
		t.Helper()
		if fault = nil; kind != "" {
			fault = &faastest.Fault{Kind: kind}
		}
		resp, err := client.Get(server.URL + "/a")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(resp.Status + " " + string(text))
	}
	for i, step := range []struct {
		now  string
		kind faastest.FaultKind
		want string
	}{
		{"", "", "404 Not Found its own words"},
		{"one", faastest.Stale, "404 Not Found its own words"},
		{"one", faastest.Missing, "404 Not Found its own words"},
		{"one", "", "200 OK one"},
		{"two", faastest.Stale, "200 OK one"},
		{"two", faastest.Stale, "200 OK one"},
		{"two", "", "200 OK two"},
		{"", faastest.Stale, "200 OK two"},
	} {
		body.Store(step.now)
		if got := get(step.kind); got != step.want {
			t.Errorf("read %d: %q, want %q", i, got, step.want)
		}
	}
}

func TestALateChangeTakesEffectAfterItsError(t *testing.T) {
	cloud, inner, u := echo(t)
	synctest.Test(t, func(t *testing.T) {
		exec := faastest.Faulty(inner, faastest.Faults(
			faastest.Rule{Op: faastest.OpConverge, Fault: faastest.Fault{Kind: faastest.Late, Delay: time.Second}}))
		_, err := exec.Converge(t.Context(), u, nil, nil)
		var e *faas.Error
		if !errors.As(err, &e) || !e.Unsettled || e.Code != faas.ErrUnavailable || len(cloud.Units()) != 0 {
			t.Fatalf("error %v, units %v", err, cloud.Units())
		}
		time.Sleep(2 * time.Second)
		if got := cloud.Units(); len(got) != 1 {
			t.Errorf("units %v, want the one that was late", got)
		}
	})
}
