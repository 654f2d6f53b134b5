//go:build !faas_only || faas_gcp

package gcp_test

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
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// olderBinary stands in front of the fake's functions. When told to, it reads each request as an
// older version of a job binary does, and refuses what that would refuse. It records the forms of
// the requests.
type olderBinary struct {
	base http.RoundTripper

	mu    sync.Mutex
	on    bool
	forms []string
}

func (o *olderBinary) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost || !strings.Contains(r.URL.Path, "/fn/") {
		return o.base.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !faas.IsWarmRequest(body) {
		o.forms = append(o.forms, map[bool]string{true: "raw", false: "published"}[payloads.IsCall(r.Header)])
	}
	if _, _, err := faas.ParseRequest(nil, body); err != nil && o.on {
		text, _ := json.Marshal(map[string]string{"error": err.Error(), "code": "INVALID_REQUEST"})
		return &http.Response{StatusCode: 400, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(bytes.NewReader(text)), Request: r}, nil
	}
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	return o.base.RoundTrip(again)
}

func (o *olderBinary) taken() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	forms := o.forms
	o.forms = nil
	return forms
}

func (o *olderBinary) set(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.on = on
}

func TestNoCallFailsWhileAFunctionChangesItsForm(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	base := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(base.CloseIdleConnections)
	o := &olderBinary{base: base}
	cfg := config(s, "form", "mode=cloud-run", "bucket=test-bucket")
	cfg.HTTPClient = &http.Client{Transport: o}
	e, other := open(t, cfg), open(t, config(s, "form", "mode=cloud-run", "bucket=test-bucket"))
	deployIt := func(compact bool) {
		t.Helper()
		units, err := other.Units(jobBinary(t), []faas.Function{{JobID: faastest.JobEcho, MemoryMB: 256, TimeoutSecs: 60}})
		if err != nil {
			t.Fatal(err)
		}
		if units[0].Package, err = packages.build(units[0].Files); err != nil {
			t.Fatal(err)
		}
		if !units[0].Compact {
			t.Fatal("the test's job binary does not take the compact form")
		}
		units[0].Compact = compact
		state, err := other.Converge(t.Context(), units[0], nil, nil)
		if err != nil || state.Compact != compact {
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
		if diff := cmp.Diff(forms, o.taken()); diff != "" {
			t.Error(diff)
		}
	}
	large := bytes.Repeat([]byte{200}, 9<<20)

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
	want("raw", "raw")
	o.set(true) // a rollback to an older binary that nobody told of
	echo([]byte("x"))
	echo([]byte("y"))
	want("raw", "published", "published")
}

// The shim around a plain binary refuses the raw form before it runs the binary.
func TestTheShimOfPlainBinariesRefusesTheRawForm(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "shim"))
	bin := script(t, "#!/bin/sh\ncat >/dev/null\necho '{\"result\":[1]}'\n")
	units, err := e.Units(bin, []faas.Function{{JobID: 0, MemoryMB: 256, TimeoutSecs: 60}})
	if err != nil {
		t.Fatal(err)
	}
	if units[0].Compact {
		t.Error("a script is said to take the compact form")
	}
	if units[0].Package, err = packages.build(units[0].Files); err != nil {
		t.Fatal(err)
	}
	state, err := e.Converge(t.Context(), units[0], nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	body := payloads.NewBody([]byte("x"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, state.Endpoint, body.Open())
	if err != nil {
		t.Fatal(err)
	}
	req.Header, req.ContentLength = payloads.CallHeaders(0, []byte("x")), payloads.Length
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !payloads.Refused(resp.StatusCode) {
		t.Errorf("status %d", resp.StatusCode)
	}
}
