package custom_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// between is a proxy before a platform. It records the form of each invocation, and may change it.
type between struct {
	platform http.Handler
	change   func(w http.ResponseWriter, r *http.Request) http.ResponseWriter

	mu    sync.Mutex
	forms []string
}

func (b *between) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/invoke") {
		form := "published"
		if payloads.IsCall(r.Header) {
			form = "raw"
		}
		b.mu.Lock()
		b.forms = append(b.forms, form)
		b.mu.Unlock()
		if b.change != nil {
			w = b.change(w, r)
		}
	}
	b.platform.ServeHTTP(w, r)
}

// taken returns the forms of the invocations since its last call.
func (b *between) taken() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	forms := b.forms
	b.forms = nil
	return forms
}

// without removes a header from an answer.
type without struct {
	http.ResponseWriter
	header string
}

func (w without) WriteHeader(status int) {
	delete(w.Header(), w.header)
	w.ResponseWriter.WriteHeader(status)
}

func (w without) Write(p []byte) (int, error) {
	delete(w.Header(), w.header)
	return w.ResponseWriter.Write(p)
}

func (w without) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// behind opens an executor with functions for the jobs, on a platform of this module behind b.
func behind(t *testing.T, b *between, jobs ...uint32) faas.Executor {
	t.Helper()
	p, err := platform.New(platform.WithDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	b.platform = p
	var conns connections
	e := open(t, faas.Config{Service: "raw", Endpoint: conns.serve(t, b)})
	bin, err := faas.InspectBinary(faastest.JobBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs {
		units, err := e.Units(bin, []faas.Function{{JobID: job, MemoryMB: 256, TimeoutSecs: 60}})
		if err != nil {
			t.Fatal(err)
		}
		if units[0].Package, err = faas.BuildPackage(t.Context(), t.TempDir(), units[0].Files); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Converge(t.Context(), units[0], nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func echo(t *testing.T, e faas.Executor, args []byte) {
	t.Helper()
	r, err := e.Invoke(t.Context(), faastest.JobEcho, args)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Output, args) {
		t.Errorf("%d bytes came back as %d others", len(args), len(r.Output))
	}
}

func TestThePlatformThatAnnouncesItGetsTheRawForm(t *testing.T) {
	b := &between{}
	e := behind(t, b, faastest.JobEcho, faastest.JobFail, faastest.JobAnswer)
	for _, args := range [][]byte{[]byte("first"), []byte("second"), nil, {0},
		faas.AppendRequest(nil, faastest.JobFail, []byte("x")), make([]byte, 5<<20)} {
		echo(t, e, args)
	}
	if diff := cmp.Diff([]string{"published", "raw", "raw", "raw", "raw", "raw"}, b.taken()); diff != "" {
		t.Error(diff)
	}
	_, err := e.Invoke(t.Context(), faastest.JobFail, []byte("no luck"))
	var failed *faas.FunctionError
	if !errors.As(err, &failed) || failed.Message != "no luck" {
		t.Errorf("a failure in the raw form: %v", err)
	}
	if _, err := e.Invoke(t.Context(), 99, nil); faas.CodeOf(err) != faas.ErrNotFound || !asError(t, err).NotRun {
		t.Errorf("a job without a function: %v", err)
	}
	if _, err := e.Invoke(t.Context(), faastest.JobAnswer, fmt.Append(nil, 5<<20)); err != nil {
		t.Errorf("an answer at the limit: %v", err)
	}
	_, err = e.Invoke(t.Context(), faastest.JobAnswer, fmt.Append(nil, 5<<20+1))
	if faas.CodeOf(err) != faas.ErrTooLarge || asError(t, err).NotRun || !strings.Contains(err.Error(), "has run") {
		t.Errorf("an answer above the limit: %v", err)
	}
	_ = b.taken()
	if _, err = e.Invoke(t.Context(), faastest.JobEcho, make([]byte, 5<<20+1)); faas.CodeOf(err) != faas.ErrTooLarge ||
		!asError(t, err).NotRun || len(b.taken()) > 0 {
		t.Errorf("arguments above the limit: %v", err)
	}
}

// An older platform reads a request in the raw form as one in the published form.
func olderVersion(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	r.Header.Set("Content-Type", "application/octet-stream")
	return w
}

func TestNoCallFailsWhereTheRawFormDoesNotGetThrough(t *testing.T) {
	for name, test := range map[string]struct {
		change func(http.ResponseWriter, *http.Request) http.ResponseWriter
		want   []string
	}{
		"an older version answers": {olderVersion, []string{"published", "raw", "published", "published"}},
		"nothing announces it": {func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
			return without{w, payloads.FeaturesHeader}
		}, []string{"published", "published", "published"}},
		"a gateway refuses it": {func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
			if payloads.IsCall(r.Header) {
				r.Method = http.MethodTrace // which is answered with 405
			}
			return w
		}, []string{"published", "raw", "published", "published"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &between{change: test.change}
			e := behind(t, b, faastest.JobEcho, faastest.JobCount)
			file := t.TempDir() + "/runs"
			for i := range 3 {
				r, err := e.Invoke(t.Context(), faastest.JobCount, []byte(file))
				if want := fmt.Sprint(i + 1); err != nil || string(r.Output) != want {
					t.Fatalf("call %s: %v, %v", want, r, err)
				}
			}
			if diff := cmp.Diff(test.want, b.taken()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// If a proxy removes the header of a raw answer, the executor is deceived at most once.
func TestAnAnswerThatLostItsHeaderIsNoOutput(t *testing.T) {
	b := &between{change: func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
		return without{w, "Content-Type"}
	}}
	e := behind(t, b, faastest.JobEcho)
	echo(t, e, []byte("x"))
	if _, err := e.Invoke(t.Context(), faastest.JobEcho, []byte("x")); faas.CodeOf(err) != faas.ErrUnavailable ||
		asError(t, err).NotRun || !strings.Contains(err.Error(), "may have run") {
		t.Errorf("got %v", err)
	}
	echo(t, e, []byte("x"))
	if got := b.taken(); !slices.Equal(got, []string{"published", "raw", "published"}) {
		t.Error(got)
	}
}
