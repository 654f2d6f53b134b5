package custom_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

// inMemory has a platform in the same program serve requests, under the clock of a test. As over a
// network, the platform goes on when its client has gone.
type inMemory struct {
	platform http.Handler
	slow     time.Duration // how long each piece of an upload takes
}

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	var body bytes.Buffer
	if r.Body != nil {
		defer r.Body.Close()
		for {
			if m.slow > 0 {
				time.Sleep(m.slow)
			}
			if r.Context().Err() != nil {
				return nil, context.Cause(r.Context())
			}
			if _, err := io.CopyN(&body, r.Body, 64); err == io.EOF {
				break
			} else if err != nil {
				return nil, err
			}
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	req := r.Clone(context.Background())
	req.Body, req.RequestURI = io.NopCloser(&body), r.URL.RequestURI()
	answered := make(chan *http.Response, 1)
	go func() {
		w := httptest.NewRecorder()
		m.platform.ServeHTTP(w, req)
		answered <- w.Result()
	}()
	select {
	case resp := <-answered:
		return resp, nil
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

// within runs a test of an executor and a plain platform under a clock of its own.
func within(t *testing.T, test func(*testing.T, *fake, *custom.Executor)) {
	synctest.Test(t, func(t *testing.T) {
		p := newFake(t)
		test(t, p, open(t, faas.Config{Endpoint: "http://127.0.0.1:1", HTTPClient: &http.Client{Transport: inMemory{platform: p}}}))
	})
}

func (p *fake) ids() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := []string{}
	for id := range p.functions {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// slowly has the platform take its time for requests of a method, from now on.
func (p *fake) slowly(method string, d time.Duration) {
	p.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == method {
			time.Sleep(d)
		}
		return false
	}
}

func packed(t *testing.T, e faas.Executor, functions ...faas.Function) []faas.Unit {
	t.Helper()
	units, err := e.Units(script(t), functions)
	if err != nil {
		t.Fatal(err)
	}
	for i := range units {
		if units[i].Package, err = faas.BuildPackage(t.Context(), t.TempDir(), units[i].Files); err != nil {
			t.Fatal(err)
		}
	}
	return units
}

func TestAFailedDeploymentLeavesNothingThatAppearsLater(t *testing.T) {
	within(t, func(t *testing.T, p *fake, e *custom.Executor) {
		p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			if r.URL.Path == path {
				refuse(w, http.StatusInternalServerError, "no")
				return true
			}
			time.Sleep(300 * time.Millisecond)
			return false
		}
		var functions []faas.Function
		for job := range uint32(4) {
			functions = append(functions, faas.Function{JobID: job, MemoryMB: 128, TimeoutSecs: 5})
		}
		units := packed(t, e, functions...)
		eng := engine.New(e, faas.Custom, engine.Options{})
		changes, err := eng.Observe(t.Context(), units, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = eng.Apply(t.Context(), changes)
		if failed := asError(t, err); failed.Code != faas.ErrUnavailable || len(failed.Leftovers) > 0 {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Hour)
		if ids := p.ids(); len(ids) > 0 {
			t.Errorf("%v exist afterwards", ids)
		}
	})
}

func TestAnUploadThatWasNeverAnsweredIsNotForgotten(t *testing.T) {
	for name, test := range map[string]struct {
		takes time.Duration
		want  faas.Code // of the removal
	}{
		"answered within the grace":          {5 * time.Second, ""},
		"arrives while it is being removed":  {15 * time.Second, ""},
		"arrives when nobody waits any more": {time.Minute, faas.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, p *fake, e *custom.Executor) {
				u := packed(t, e, small(secret))[0]
				p.slowly(http.MethodPut, test.takes)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := e.Converge(ctx, u, nil, nil)
				if failed := asError(t, err); failed.Code != faas.ErrTimeout || !errors.Is(err, context.DeadlineExceeded) || failed.Unsettled != (test.takes > 10*time.Second) {
					t.Errorf("Converge: %v (unsettled %v)", err, failed.Unsettled)
				}
				err = e.Remove(t.Context(), u.ID)
				if faas.CodeOf(err) != test.want {
					t.Errorf("Remove: %v", err)
				}
				if err != nil {
					if !strings.Contains(err.Error(), "may make it appear") {
						t.Errorf("Remove: %v", err)
					}
					time.Sleep(time.Minute)
					if err := e.Remove(t.Context(), u.ID); err != nil {
						t.Errorf("Remove, later: %v", err)
					}
				}
				time.Sleep(time.Hour)
				if ids := p.ids(); len(ids) > 0 {
					t.Errorf("%v exist afterwards", ids)
				}
			})
		})
	}
}

func TestAnUploadThatNeverArrivesIsForgottenAtLast(t *testing.T) {
	within(t, func(t *testing.T, p *fake, e *custom.Executor) {
		u := packed(t, e, small("one"))[0]
		p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				time.Sleep(time.Hour)
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
			return false
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Converge(ctx, u, nil, nil); !asError(t, err).Unsettled {
			t.Errorf("Converge: %v", err)
		}
		if err := e.Remove(t.Context(), u.ID); faas.CodeOf(err) != faas.ErrUnavailable {
			t.Errorf("Remove: %v", err)
		}
		time.Sleep(10 * time.Minute)
		if err := e.Remove(t.Context(), u.ID); err != nil {
			t.Errorf("Remove, later: %v", err)
		}
		time.Sleep(time.Hour)
	})
}

func TestAnUploadIsBrokenOffInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFake(t)
		e := open(t, faas.Config{Endpoint: "http://127.0.0.1:1", HTTPClient: &http.Client{Transport: inMemory{platform: p, slow: 2 * time.Second}}})
		u := packed(t, e, small("one"))[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		_, err := e.Converge(ctx, u, nil, nil)
		if failed := asError(t, err); failed.Code != faas.ErrTimeout || failed.Unsettled || time.Since(begun) > 3*time.Second {
			t.Errorf("after %v: %v (unsettled %v)", time.Since(begun), err, failed.Unsettled)
		}
		time.Sleep(time.Hour)
		if ids := p.ids(); len(ids) > 0 || p.count("PUT") > 0 {
			t.Errorf("%v exist afterwards, after %d uploads", ids, p.count("PUT"))
		}
	})
}

func TestWhoGivesUpAReplacementDoesNotLoseTheFunction(t *testing.T) {
	within(t, func(t *testing.T, p *fake, e *custom.Executor) {
		u := packed(t, e, small("one"))[0]
		if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
			t.Fatal(err)
		}
		two := packed(t, e, small("two"))[0]
		for name, deletion := range map[string]func(http.ResponseWriter, *http.Request) bool{
			"its deletion takes long": func(http.ResponseWriter, *http.Request) bool {
				time.Sleep(5 * time.Second)
				return false
			},
			"the answer to its deletion is lost, and the next one throttled": func(w http.ResponseWriter, r *http.Request) bool {
				if len(p.ids()) == 0 {
					refuse(w, http.StatusTooManyRequests, "not so fast")
					return true
				}
				time.Sleep(5 * time.Second)
				r.SetPathValue("id", u.ID)
				p.delete(httptest.NewRecorder(), r)
				w.WriteHeader(http.StatusBadGateway)
				return true
			},
			"the answer to its deletion is lost": func(w http.ResponseWriter, r *http.Request) bool {
				if len(p.ids()) == 0 {
					return false
				}
				time.Sleep(5 * time.Second)
				r.SetPathValue("id", u.ID)
				p.delete(httptest.NewRecorder(), r)
				w.WriteHeader(http.StatusBadGateway)
				return true
			},
		} {
			p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodDelete && deletion(w, r)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := e.Converge(ctx, two, nil, nil); faas.CodeOf(err) != faas.ErrTimeout {
				t.Errorf("%s: got %v", name, err)
			}
			cancel()
			time.Sleep(time.Hour)
			if diff := cmp.Diff([]string{u.ID}, p.ids()); diff != "" {
				t.Errorf("%s: functions (-want +got):\n%s", name, diff)
			}
		}
	})
}

func TestRemoveDoesNotBelieveARead(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	u := deploy(t, e, small("one"))
	p.requests()
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			answer(w, http.StatusNotFound, map[string]any{"error": "no such function", "function_id": u.ID})
			return true
		}
		return false
	}
	if err := e.Remove(t.Context(), u.ID); err != nil || len(p.functions) > 0 {
		t.Errorf("error %v, %d functions are left", err, len(p.functions))
	}
	if diff := cmp.Diff([]string{"GET " + path, "DELETE " + path}, p.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if err := e.Remove(t.Context(), "other-job0"); faas.CodeOf(err) != faas.ErrConflict || p.count("DELETE") > 0 {
		t.Errorf("of what would be another service's: %v", err)
	}
}

func TestOnlyWhatThisExecutorDidNotMakeExisted(t *testing.T) {
	stale := func(p *fake) {
		left := 1
		p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if left--; left == 0 {
				refuse(w, http.StatusNotFound, "no such function")
				return true
			}
			return false
		}
	}
	for name, change := range map[string]func(*fake){"seen at once": func(*fake) {}, "a read was behind": stale} {
		for _, extended := range []bool{false, true} {
			p := newFake(t)
			p.extended = extended
			url := p.start(t).URL
			deploy(t, open(t, faas.Config{Endpoint: url}), small("one"))
			change(p)
			e := open(t, faas.Config{Endpoint: url})
			for _, want := range []bool{true, false} { // the second time it is this executor's
				if s, err := e.Converge(t.Context(), unit(t, e, small("two")), nil, nil); err != nil || s.Existed != want {
					t.Errorf("%s, extended %v: existed %v, %v; want %v", name, extended, s.Existed, err, want)
				}
			}
		}
	}
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	lost := false
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || lost {
			return false
		}
		lost = true
		r.SetPathValue("id", "svc-job0")
		p.put(httptest.NewRecorder(), r)
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	if s, err := e.Converge(t.Context(), unit(t, e, small("one")), nil, nil); err != nil || s.Existed {
		t.Errorf("what an upload made whose answer was lost: existed %v, %v", s.Existed, err)
	}
}

func TestAnUnchangedFunctionOfAPlainPlatformCostsOneRead(t *testing.T) {
	p := newFake(t)
	url := p.start(t).URL
	e := open(t, faas.Config{Endpoint: url})
	u := unit(t, e, small("one"))
	eng := engine.New(e, faas.Custom, engine.Options{})
	changes, err := eng.Observe(t.Context(), []faas.Unit{u}, nil)
	if err != nil {
		t.Fatal(err)
	}
	states, err := eng.Apply(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(states[0]) // as the ledger keeps it
	if err != nil {
		t.Fatal(err)
	}
	var kept faas.State
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	again := func(u faas.Unit) engine.Action {
		t.Helper()
		other := open(t, faas.Config{Endpoint: url}) // another program
		p.requests()
		changes, err := engine.New(other, faas.Custom, engine.Options{}).Observe(t.Context(), []faas.Unit{u}, map[string]faas.State{u.ID: kept})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"GET " + path}, p.requests()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		return changes[0].Action
	}
	if got := again(u); got != engine.Keep {
		t.Errorf("unchanged: %s", got)
	}
	if got := again(unit(t, e, small("two"))); got != engine.Update {
		t.Errorf("with another environment: %s", got)
	}
	p.functions[u.ID].deployedAt = p.functions[u.ID].deployedAt.Add(time.Minute)
	if got := again(u); got != engine.Update {
		t.Errorf("after somebody has put another one: %s", got)
	}
}

// A platform that tells the time in seconds says the same of two deployments in one.
func TestAReplacementWithinASecondIsNotTakenForNone(t *testing.T) {
	within(t, func(t *testing.T, p *fake, e *custom.Executor) {
		one, two := packed(t, e, small("one"))[0], packed(t, e, small("two"))[0]
		prior, err := e.Converge(t.Context(), one, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Restore(t.Context(), prior); err != nil {
			t.Errorf("Restore of what was not changed: %v", err)
		}
		now, err := e.Converge(t.Context(), two, &prior, nil)
		if err != nil || now.Revision != prior.Revision {
			t.Fatalf("revision %q after %q, %v", now.Revision, prior.Revision, err)
		}
		if err := e.Restore(t.Context(), prior); faas.CodeOf(err) != faas.ErrUnsupported || prior.NotRestorable == "" {
			t.Errorf("Restore of what was replaced: %v", err)
		}
	})
}

func TestAPlatformIsWaitedForAsLongAsItAsks(t *testing.T) {
	outage := func(p *fake, header string, lasts time.Duration) {
		over := time.Now().Add(lasts)
		p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if time.Now().Before(over) {
				if header != "" {
					w.Header().Set("Retry-After", header)
				}
				refuse(w, http.StatusServiceUnavailable, "back soon")
				return true
			}
			return false
		}
	}
	for name, test := range map[string]struct {
		header   string
		lasts    time.Duration
		want     faas.Code
		requests int
	}{
		"it says when":        {"7", 20 * time.Second, faas.ErrNotFound, 4},
		"it does not say":     {"", 20 * time.Second, faas.ErrNotFound, 10},
		"for too long":        {"7", time.Hour, faas.ErrUnavailable, 18},
		"later than we wait":  {"600", time.Hour, faas.ErrUnavailable, 1},
		"in another century":  {"99999999999999999999", time.Hour, faas.ErrUnavailable, 1},
		"for ever, unasked":   {"", time.Hour, faas.ErrUnavailable, 11},
		"a date that is past": {"Fri, 01 Jan 1999 15:04:05 GMT", 20 * time.Second, faas.ErrNotFound, 10},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, p *fake, e *custom.Executor) {
				outage(p, test.header, test.lasts)
				_, err := e.Observe(t.Context(), "svc-job0")
				if n := len(p.requests()); faas.CodeOf(err) != test.want || n != test.requests {
					t.Errorf("after %d requests: %v; want code %q after %d", n, err, test.want, test.requests)
				}
				if test.want == faas.ErrUnavailable && (asError(t, err).RetryAfter > 0) != (test.header != "") {
					t.Errorf("RetryAfter is %v", asError(t, err).RetryAfter)
				}
			})
		})
	}
	within(t, func(t *testing.T, p *fake, e *custom.Executor) {
		outage(p, "30", time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.Observe(ctx, "svc-job0")
		if faas.CodeOf(err) != faas.ErrTimeout || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, faas.ErrUnavailable) || !strings.Contains(err.Error(), "back soon") {
			t.Errorf("what ends the wait hides the reason: %v", err)
		}
	})
}

func TestALookThatFailsDoesNotEndAWait(t *testing.T) {
	bad := map[string]func(http.ResponseWriter){}
	for _, status := range []int{401, 404, 408, 429, 500, 502, 503, 504} {
		bad[fmt.Sprint(status)] = func(w http.ResponseWriter) { refuse(w, status, "not now") }
	}
	for name, refuseOnce := range bad {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, p *fake, e *custom.Executor) {
				u := packed(t, e, small("one"))[0]
				failures := 0
				var deleting sync.Once
				p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
					p.mu.Lock()
					there := p.functions[u.ID] != nil
					p.mu.Unlock()
					switch {
					case r.Method == http.MethodGet && there && failures == 0:
						failures++
						refuseOnce(w)
						return true
					case r.Method == http.MethodDelete:
						deleting.Do(func() {
							failures = 0
							go func() {
								time.Sleep(time.Second)
								r.SetPathValue("id", u.ID)
								p.delete(httptest.NewRecorder(), r)
							}()
						})
						answer(w, http.StatusAccepted, map[string]any{"function_id": u.ID, "status": "deleting"})
						return true
					}
					return false
				}
				if _, err := e.Converge(t.Context(), u, nil, nil); err != nil || failures != 1 {
					t.Errorf("Converge: %v, after %d failed looks", err, failures)
				}
				if name == "404" { // which is what a removal waits for
					return
				}
				if err := e.Remove(t.Context(), u.ID); err != nil || failures != 1 || len(p.ids()) > 0 {
					t.Errorf("Remove: %v, after %d failed looks; %v are left", err, failures, p.ids())
				}
			})
		})
	}
	for name, test := range map[string]struct {
		status int
		want   faas.Code
		reason faas.Code
	}{
		"a credential that is refused": {http.StatusForbidden, faas.ErrPermissionDenied, faas.ErrPermissionDenied},
		"a platform that stays away":   {http.StatusInternalServerError, faas.ErrTimeout, faas.ErrUnavailable},
		"throttling for ever":          {http.StatusTooManyRequests, faas.ErrTimeout, faas.ErrThrottled},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, p *fake, e *custom.Executor) {
				u := packed(t, e, small("one"))[0]
				p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet && p.functions[u.ID] != nil {
						refuse(w, test.status, "not now")
						return true
					}
					return false
				}
				if _, err := e.Converge(t.Context(), u, nil, nil); faas.CodeOf(err) != test.want || !errors.Is(err, test.reason) || !strings.Contains(err.Error(), "not now") {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestADeletionThatNeverEndsIsBounded(t *testing.T) {
	within(t, func(t *testing.T, p *fake, e *custom.Executor) {
		u := packed(t, e, small("one"))[0]
		if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
			t.Fatal(err)
		}
		p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete {
				answer(w, http.StatusAccepted, map[string]any{"function_id": u.ID, "status": "deleting"})
			}
			return r.Method == http.MethodDelete
		}
		if err := e.Remove(t.Context(), u.ID); faas.CodeOf(err) != faas.ErrTimeout || !strings.Contains(err.Error(), "still shows it") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAFunctionThatIsBeingDeployedIsDeletedWhenThatIsOver(t *testing.T) {
	within(t, func(t *testing.T, p *fake, e *custom.Executor) {
		u := packed(t, e, small("one"))[0]
		if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
			t.Fatal(err)
		}
		ready := time.Now().Add(10 * time.Second)
		p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case time.Now().After(ready):
				return false
			case r.Method == http.MethodDelete:
				answer(w, http.StatusConflict, map[string]any{"error": "it is being deployed", "function_id": u.ID})
			default:
				answer(w, http.StatusOK, map[string]any{"function_id": u.ID, "status": "deploying"})
			}
			return true
		}
		if err := e.Remove(t.Context(), u.ID); err != nil || len(p.ids()) > 0 {
			t.Errorf("%v; %v are left", err, p.ids())
		}
	})
}
