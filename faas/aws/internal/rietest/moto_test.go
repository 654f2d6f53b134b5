//go:build linux

package rietest

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// moto starts moto, a stand-in for AWS that others have written, and returns its URL. It runs no
// functions.
func moto(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto is not installed: pip install 'moto[server]'")
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(freeAddress(t), ":")
	cmd := exec.Command(program, "-H", "127.0.0.1", "-p", port)
	mark := proctree.New()
	cmd.Env, cmd.Stdout, cmd.Stderr = mark.AddTo(os.Environ()), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mark.Kill(context.Background()); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("log of moto:\n%s", text)
		}
		log.Close()
	})
	url := "http://127.0.0.1:" + port
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := direct.Post(url+"/moto-api/config", "application/json",
			strings.NewReader(`{"lambda":{"use_docker":false}}`))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode < 300 {
				return url
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("moto does not answer: %v", err)
		}
	}
}

// padded returns a copy of an executable that is too large to be sent in a call.
func padded(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 51<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	copied := filepath.Join(t.TempDir(), "padded")
	if err := os.WriteFile(copied, append(text, noise...), 0o755); err != nil {
		t.Fatal(err)
	}
	return copied
}

// Moto knows nothing of this module, and models Lambda, IAM and S3 independently. The test removes
// no version, because moto cannot delete a function then.
func TestAServiceLivesAtMoto(t *testing.T) {
	url := moto(t)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": url,
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	create, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/packages", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := direct.Do(create)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Fatalf("create the bucket: %s", resp.Status)
	}
	f := &front{t: t, base: &http.Transport{DisableKeepAlives: true}, sandboxes: map[string]*sandbox{}}
	e, err := faas.Open(t.Context(), faas.Config{
		Provider: faas.AWSLambda, Service: "judged", HTTPClient: &http.Client{Transport: f}, Options: map[string]string{
			"create_role": "true", "bucket": "packages", "tags": "team=a", "log_format": "JSON",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	path := faastest.JobBinary(t)
	jobs := []uint32{faastest.JobEnv, faastest.JobVersion}
	greets := func(greeting, version string) {
		t.Helper()
		outcome{job: faastest.JobEnv, args: "GREETING", output: greeting}.check(t, e)
		outcome{job: faastest.JobVersion, output: version}.check(t, e)
	}
	first := wanted(t, e, inspect(t, path), settings(30, map[string]string{"GREETING": "hello"}), jobs...)
	old := start(t, first[0])
	converge(t, e, f, old, first)
	greets("hello", "")

	var priors []faas.State
	for _, u := range first {
		now, err := e.Observe(t.Context(), u.ID)
		if err != nil {
			t.Fatal(err)
		}
		priors = append(priors, now)
	}
	next := inspect(t, faastest.AddVersion(t, padded(t, path), "2"))
	second := wanted(t, e, next, settings(60, map[string]string{"GREETING": "good day"}), jobs...)
	converge(t, e, f, start(t, second[0]), second)
	greets("good day", "2")
	for i, u := range first {
		f.serve(u.ID, old)
		if err := e.Restore(t.Context(), priors[i]); err != nil {
			t.Errorf("restore: %v", err)
		}
		if now, err := e.Observe(t.Context(), u.ID); err != nil || !now.Current(u) {
			t.Errorf("%s is not what it was: %+v, %v", u.ID, now, err)
		}
	}
	greets("hello", "")

	states, err := e.List(t.Context())
	if err != nil || len(states) != len(first) {
		t.Errorf("listed: %+v, %v", states, err)
	}
	for _, u := range first {
		for range 2 { // the second time there is nothing to remove
			if err := e.Remove(t.Context(), u.ID); err != nil {
				t.Error(err)
			}
		}
		if _, err := e.Observe(t.Context(), u.ID); faas.CodeOf(err) != faas.ErrNotFound {
			t.Errorf("%s was removed, and is there: %v", u.ID, err)
		}
	}
	if states, err := e.List(t.Context()); err != nil || len(states) != 0 {
		t.Errorf("after the removal: %+v, %v", states, err)
	}
}
