package sdktest

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"testing"
	"time"

	functions "cloud.google.com/go/functions/apiv2"
	pb "cloud.google.com/go/functions/apiv2/functionspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	run "cloud.google.com/go/run/apiv2"
	"google.golang.org/api/iterator"
	logging "google.golang.org/api/logging/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
	_ "github.com/tangle-network/blueprint-serverless/faas/job" // faastest builds a program of it within this module
)

const parent = "projects/test-project/locations/us-central1"

// TestGooglesClientAndTheProviderUnderstandEachOther deploys with the one and uses with the other, both ways.
func TestGooglesClientAndTheProviderUnderstandEachOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := gcptest.Start(t, gcptest.NewBuilder(t.TempDir()))
	t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING", s.URL)
	opts := []option.ClientOption{option.WithEndpoint(s.URL), option.WithoutAuthentication()}
	client, err := functions.NewFunctionRESTClient(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	e, err := gcp.New(faas.Config{Service: "sdk", ProjectID: "test-project", Options: map[string]string{
		"functions_endpoint": s.URL, "run_endpoint": s.URL, "disable_credentials": "true", "adopt": "true",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	bin, err := faas.InspectBinary(faastest.JobBinaryFor(t, "linux", "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	units, err := e.Units(bin, []faas.Function{{JobID: 0, MemoryMB: 512, TimeoutSecs: 60}, {JobID: 1, MemoryMB: 1024, TimeoutSecs: 60, KeepWarm: 1}})
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := faas.BuildPackage(ctx, t.TempDir(), units[0].Files)
	if err != nil {
		t.Fatal(err)
	}
	for i := range units {
		units[i].Package = pkg
	}

	// The provider deploys, Google's client looks.
	if _, err := e.Converge(ctx, units[1], nil, nil); err != nil {
		t.Fatal(err)
	}
	f, err := client.GetFunction(ctx, &pb.GetFunctionRequest{Name: parent + "/functions/" + units[1].ID})
	if err != nil {
		t.Fatal(err)
	}
	if f.State != pb.Function_ACTIVE || f.Environment != pb.Environment_GEN_2 || f.ServiceConfig.AvailableMemory != "1Gi" || f.ServiceConfig.MinInstanceCount != 1 ||
		f.ServiceConfig.IngressSettings != pb.ServiceConfig_ALLOW_ALL || f.BuildConfig.EntryPoint != "Job" {
		t.Errorf("Google's client sees %v", f)
	}

	// Google's client deploys, the provider looks and takes it over.
	create(ctx, t, client, units[0].ID, pkg)
	if r, err := e.Invoke(ctx, 0, []byte("hello")); err != nil || string(r.Output) != "hello" {
		t.Errorf("Invoke: %v, %v", r, err)
	}
	s.Log("test-project", "us-central1", units[0].ID, "run.googleapis.com%2Fstderr", map[string]any{"textPayload": "printed"})
	if state, err := e.Converge(ctx, units[0], nil, nil); err != nil || !state.Current(units[0]) {
		t.Errorf("Converge: %+v, %v", state, err)
	}
	entries(ctx, t, s.URL, e, units[0].ID)
	count := 0
	all := client.ListFunctions(ctx, &pb.ListFunctionsRequest{Parent: parent})
	for {
		if _, err := all.Next(); err == iterator.Done {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != 2 {
		t.Errorf("Google's client lists %d functions", count)
	}
	policy(ctx, t, opts, "projects/test-project/locations/us-central1/services/"+units[0].ID)

	deleted, err := client.DeleteFunction(ctx, &pb.DeleteFunctionRequest{Name: f.Name})
	if err == nil {
		err = deleted.Wait(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Observe(ctx, units[1].ID); faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("Observe after DeleteFunction: %v", err)
	}
	if _, err := client.GetFunction(ctx, &pb.GetFunctionRequest{Name: f.Name}); status.Code(err) != codes.NotFound {
		t.Errorf("GetFunction after DeleteFunction: %v", err)
	}
}

// entries reads the log of job 0 with Google's client, by the provider's filter and with the provider.
func entries(ctx context.Context, t *testing.T, url string, e *gcp.Executor, function string) {
	t.Helper()
	client, err := logging.NewService(ctx, option.WithEndpoint(url), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.Entries.List(&logging.ListLogEntriesRequest{
		ResourceNames: []string{"projects/test-project"}, OrderBy: "timestamp desc", PageSize: 10,
		Filter: `resource.type="cloud_run_revision" AND resource.labels.service_name="` + function + `"`,
	}).Context(ctx).Do()
	if err != nil || len(list.Entries) != 1 || list.Entries[0].TextPayload != "printed" || list.Entries[0].Resource.Labels["service_name"] != function {
		t.Errorf("Google's client reads %+v, %v", list, err)
	}
	for line, err := range e.Logs(ctx, faas.LogQuery{JobIDs: []uint32{0}}) {
		if err != nil || line.Text != "printed" || line.FunctionID != function {
			t.Errorf("Logs: %+v, %v", line, err)
		}
	}
}

// create deploys the package with Google's client.
func create(ctx context.Context, t *testing.T, client *functions.FunctionClient, id string, pkg *faas.Package) {
	t.Helper()
	up, err := client.GenerateUploadUrl(ctx, &pb.GenerateUploadUrlRequest{Parent: parent, Environment: pb.Environment_GEN_2})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pkg.Path())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, up.UploadUrl, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/zip")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("upload: %s", resp.Status)
	}
	op, err := client.CreateFunction(ctx, &pb.CreateFunctionRequest{Parent: parent, FunctionId: id, Function: &pb.Function{
		Environment:   pb.Environment_GEN_2,
		BuildConfig:   &pb.BuildConfig{Runtime: "go126", EntryPoint: "Job", Source: &pb.Source{Source: &pb.Source_StorageSource{StorageSource: up.StorageSource}}},
		ServiceConfig: &pb.ServiceConfig{TimeoutSeconds: 30, AvailableMemory: "256Mi", IngressSettings: pb.ServiceConfig_ALLOW_ALL},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := op.Wait(ctx); err != nil || f.ServiceConfig.Uri == "" {
		t.Fatalf("CreateFunction: %v, %v", f, err)
	}
}

func policy(ctx context.Context, t *testing.T, opts []option.ClientOption, service string) {
	t.Helper()
	services, err := run.NewServicesRESTClient(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer services.Close()
	p, err := services.GetIamPolicy(ctx, &iampb.GetIamPolicyRequest{Resource: service})
	if err != nil {
		t.Fatal(err)
	}
	p.Bindings = append(p.Bindings, &iampb.Binding{Role: "roles/run.invoker", Members: []string{"allUsers"}})
	if _, err := services.SetIamPolicy(ctx, &iampb.SetIamPolicyRequest{Resource: service, Policy: p}); err != nil {
		t.Fatal(err)
	}
}
