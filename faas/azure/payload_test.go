//go:build !faas_only || faas_azure

package azure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// olderApp stands before an app. Once it is told to, it reads each request as a job binary of an
// older version does, and refuses what that refuses. It records the forms of the requests.
type olderApp struct {
	base http.RoundTripper

	mu    sync.Mutex
	on    bool
	forms []string
}

func (o *olderApp) RoundTrip(r *http.Request) (*http.Response, error) {
	if !isInvocation(r) {
		return o.base.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forms = append(o.forms, map[bool]string{true: "raw", false: "published"}[payloads.IsCall(r.Header)])
	if _, _, err := faas.ParseRequest(nil, body); err != nil && o.on {
		text, _ := json.Marshal(map[string]string{"error": err.Error(), "code": "INVALID_REQUEST"})
		return &http.Response{StatusCode: 400, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(bytes.NewReader(text)), Request: r}, nil
	}
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	return o.base.RoundTrip(again)
}

func (o *olderApp) set(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.on = on
}

func TestNoCallFailsWhileAnAppChangesItsForm(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	o := &olderApp{}
	e := openAt(t, server, "form", opening{wrap: func(base http.RoundTripper) http.RoundTripper {
		o.base = base
		return o
	}})
	other := openAt(t, server, "form", opening{})
	deployIt := func(compact bool) {
		t.Helper()
		units, err := other.Units(testBinary(t), []faas.Function{{JobID: faastest.JobEcho, MemoryMB: 512, TimeoutSecs: 60}})
		if err != nil {
			t.Fatal(err)
		}
		if !units[0].Compact {
			t.Fatal("the test's job binary does not take the compact form")
		}
		units[0].Package, units[0].Compact = packageOf(t, units[0].Files), compact
		if state, err := other.Converge(t.Context(), units[0], nil, nil); err != nil || state.Compact != compact {
			t.Fatalf("%+v, %v", state, err)
		}
	}
	echo := func(args []byte) {
		t.Helper()
		r, err := e.Invoke(t.Context(), faastest.JobEcho, args)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Output, args) {
			t.Errorf("%d bytes came back as %d others", len(args), len(r.Output))
		}
	}
	want := func(forms ...string) {
		t.Helper()
		o.mu.Lock()
		defer o.mu.Unlock()
		if diff := cmp.Diff(forms, o.forms); diff != "" {
			t.Error(diff)
		}
		o.forms = nil
	}
	large := bytes.Repeat([]byte{200}, 30<<20)

	deployIt(false) // as an older version of this module does
	echo([]byte("x"))
	want("published")
	_, err := e.Invoke(t.Context(), faastest.JobEcho, large)
	var failed *faas.Error
	if !errors.As(err, &failed) || failed.Code != faas.ErrTooLarge || !failed.NotRun ||
		!strings.Contains(err.Error(), "faas/job") || !strings.Contains(err.Error(), fmt.Sprint(len(large))) {
		t.Errorf("got %v", err)
	}
	deployIt(true) // which another executor does
	echo(large)
	echo(faas.AppendRequest(nil, 99, nil)) // which must not be taken for a request
	echo(nil)
	want("raw", "raw", "raw")
	o.set(true) // a rollback to an older binary that nobody told of
	echo([]byte("x"))
	echo([]byte("y"))
	want("raw", "published", "published")
}
