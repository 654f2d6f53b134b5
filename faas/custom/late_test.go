package custom_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// A program that gave up a deployment removes the function. Its upload may still be arriving at the
// platform, or arrive only when a proxy releases it. It must not leave a function behind.
func TestRemoveStopsAnUploadThatHasNotEnded(t *testing.T) {
	dir := t.TempDir()
	var p *platform.Platform
	start := func() {
		var err error
		if p, err = platform.New(platform.WithDir(dir)); err != nil {
			t.Fatal(err)
		}
	}
	start()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	var late func() // sends the PUT that was held back
	hold := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hold && r.Method == http.MethodPut {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			kept := r.Clone(t.Context())
			late = func() {
				answer := httptest.NewRecorder()
				req := httptest.NewRequest(http.MethodPut, kept.URL.String(), bytes.NewReader(body))
				req.Header = kept.Header
				p.ServeHTTP(answer, req)
				if answer.Code != http.StatusConflict {
					t.Errorf("the late PUT: %d %s", answer.Code, answer.Body)
				}
			}
			w.WriteHeader(http.StatusForbidden) // the program sees no success
			return
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	exec := open(t, faas.Config{Service: "svc", Endpoint: server.URL})
	id := unitID(t, exec)

	// The upload is still arriving.
	body, send := io.Pipe()
	req, err := http.NewRequest(http.MethodPut, server.URL+"/api/functions/"+id, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Blueprint-Service", "svc")
	status := make(chan int, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	_, _ = send.Write([]byte("P"))
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if uploads, _ := filepath.Glob(filepath.Join(dir, "uploads", "*.zip")); len(uploads) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the upload does not begin")
		}
	}
	if err := exec.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
	_ = send.Close()
	if got := <-status; got < 400 {
		t.Errorf("the PUT that was being received: %d", got)
	}
	if _, err := exec.Observe(t.Context(), id); faas.CodeOf(err) != faas.ErrNotFound {
		t.Error(err)
	}

	// The upload arrives after the function was removed.
	hold = true
	if err := deployAll(t, exec, version(t, 1), "7", 1); err == nil || late == nil {
		t.Fatalf("the deployment: %v", err)
	}
	hold = false
	if err := exec.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
	late()
	if _, err := exec.Observe(t.Context(), id); faas.CodeOf(err) != faas.ErrNotFound {
		t.Error(err)
	}
	// A later deployment is not held up by that, even if the platform restarts between two requests.
	if err := deployAll(t, exec, version(t, 1), "7", 1); err != nil {
		t.Error(err)
	}
	if err := exec.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
	hooked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && !hold {
			hold = true
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			start()
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(hooked.Close)
	again := open(t, faas.Config{Service: "svc", Endpoint: hooked.URL})
	if err := deployAll(t, again, version(t, 1), "7", 1); err != nil {
		t.Error(err)
	}
}

// unitID returns the id of the service's function for job 0.
func unitID(t *testing.T, exec faas.Executor) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := faas.InspectBinary(exe)
	if err != nil {
		t.Fatal(err)
	}
	units, err := exec.Units(bin, []faas.Function{{MemoryMB: 256, TimeoutSecs: 60}})
	if err != nil {
		t.Fatal(err)
	}
	return units[0].ID
}
