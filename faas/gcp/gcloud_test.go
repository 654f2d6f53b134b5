//go:build !faas_only || faas_gcp

package gcp_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

// gcloud runs Google's command line against the fake, and returns its output.
func gcloud(t *testing.T, s *gcptest.Server, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("gcloud", append(args, "--project=test-project", "--quiet", "--verbosity=error")...)
	cmd.Env = append(os.Environ(), "CLOUDSDK_CONFIG="+t.TempDir(), "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=true",
		"CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=true", "CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true")
	for _, api := range []string{"CLOUDFUNCTIONS", "RUN", "CLOUDBUILD", "CLOUDRESOURCEMANAGER", "ARTIFACTREGISTRY",
		"SERVICEUSAGE", "STORAGE", "IAM"} {
		cmd.Env = append(cmd.Env, "CLOUDSDK_API_ENDPOINT_OVERRIDES_"+api+"="+s.URL+"/")
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("gcloud %s: %v\n%s\n%s", strings.Join(args, " "), err, errs.String(), strings.Join(s.Calls(), "\n"))
	}
	return out.Bytes()
}

func TestGooglesCommandLineSeesAndRemovesWhatWasDeployed(t *testing.T) {
	runsHere(t)
	if _, err := exec.LookPath("gcloud"); err != nil {
		t.Skip("gcloud is not installed")
	}
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "cli"))
	all := units(t, e, function(0), function(1))
	for _, u := range all {
		converge(t, e, u)
	}
	var described struct {
		State         string            `json:"state"`
		Labels        map[string]string `json:"labels"`
		ServiceConfig struct {
			AvailableMemory string `json:"availableMemory"`
		} `json:"serviceConfig"`
	}
	text := gcloud(t, s, "functions", "describe", all[0].ID, "--v2", "--region=us-central1", "--format=json")
	if err := json.Unmarshal(text, &described); err != nil || described.State != "ACTIVE" ||
		described.Labels["blueprint-service"] != "cli" || described.ServiceConfig.AvailableMemory != "512Mi" {
		t.Errorf("describe: %+v, %v", described, err)
	}
	gcloud(t, s, "functions", "delete", all[0].ID, "--gen2", "--region=us-central1")
	if _, err := e.Observe(context1m(t), all[0].ID); faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("after gcloud functions delete: %v", err)
	}
	var listed []struct{ Name string }
	text = gcloud(t, s, "functions", "list", "--v2", "--regions=us-central1", "--format=json")
	if err := json.Unmarshal(text, &listed); err != nil || len(listed) != 1 ||
		!strings.HasSuffix(listed[0].Name, all[1].ID) {
		t.Errorf("list: %+v, %v", listed, err)
	}
}

func TestWhatGooglesCommandLineDeployedIsAdopted(t *testing.T) {
	runsHere(t)
	if _, err := exec.LookPath("gcloud"); err != nil {
		t.Skip("gcloud is not installed")
	}
	s := gcptest.Start(t, builder)
	e := open(t, config(s, "cli", "adopt=true"))
	u := units(t, e, function(0))[0]
	source := unzip(t, u.Package.Path())
	gcloud(t, s, "functions", "deploy", u.ID, "--gen2", "--runtime=go126", "--region=us-central1", "--source="+source,
		"--entry-point=Job", "--trigger-http", "--no-allow-unauthenticated")
	if state, err := e.Observe(context1m(t), u.ID); err != nil || state.Status != faas.StatusReady || state.Current(u) {
		t.Fatalf("state %+v, error %v", state, err)
	}
	if r, err := e.Invoke(context1m(t), 0, []byte("x")); err != nil || string(r.Output) != "x" {
		t.Errorf("Invoke: %v, %v", r, err)
	}
	if state := converge(t, e, u); !state.Current(u) {
		t.Errorf("state %+v is not current", state)
	}
}

// unzip unpacks a package into a directory of the test.
func unzip(t *testing.T, name string) string {
	t.Helper()
	r, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir := t.TempDir()
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		in.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name), text, f.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
