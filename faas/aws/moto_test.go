//go:build !faas_only || faas_aws

package aws

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// moto is an AWS that others wrote: moto_server, on a port that the system chooses.
type moto struct {
	testing.TB
	url string
}

// startMoto starts moto until the test ends, or skips the test if moto is not installed.
func startMoto(t *testing.T) moto {
	t.Helper()
	path, err := exec.LookPath("moto_server")
	if err != nil || testing.Short() {
		t.Skip("needs moto_server (pip install 'moto[server]'), and takes seconds")
	}
	cmd := exec.Command(path, "-H", "127.0.0.1", "-p", "0")
	cmd.Env = append(os.Environ(), "PYTHONUNBUFFERED=1", "MOTO_PORT=0")
	output, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	found, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(drained)
		running := regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if m := running.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
			}
		}
		_, _ = io.Copy(io.Discard, output) // a line may be longer than the scanner takes
		close(found)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	select {
	case url, ok := <-found:
		if !ok {
			t.Fatal("moto_server ended")
		}
		return moto{t, url}
	case <-time.After(time.Minute):
		t.Fatal("moto_server does not start")
	}
	return moto{}
}

// post sends a document to moto's own API.
func (m moto) post(path string, document any) {
	m.Helper()
	text, err := json.Marshal(document)
	if err != nil {
		m.Fatal(err)
	}
	resp, err := http.Post(m.url+path, "application/json", bytes.NewReader(text))
	if err != nil {
		m.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		m.Fatalf("%s: %s", path, resp.Status)
	}
}

// answer sets moto's answer to the next invocations, as it runs nothing.
func (m moto) answer(n int, text string) {
	m.Helper()
	r := faas.AppendResponse(nil, &faas.Response{Result: []byte(text), Success: true})
	m.post("/moto-api/static/lambda-simple/response", map[string]any{"region": "eu-central-1",
		"results": strings.Split(strings.Repeat(string(r)+"\n", n-1)+string(r), "\n")})
}

func (m moto) credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("AKIDMOTO", "secret", "")
}

func (m moto) open(service string, options map[string]string) *Executor {
	m.Helper()
	e, err := open(m.Context(), faas.Config{Provider: faas.AWSLambda, Service: service, Region: "eu-central-1",
		Options: options}, fastPace,
		config.WithBaseEndpoint(m.url), config.WithSharedConfigFiles([]string{}),
		config.WithSharedCredentialsFiles([]string{}),
		config.WithCredentialsProvider(m.credentials()))
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { e.Close() })
	return e
}

// What deploys at our fake also deploys at an AWS that others wrote, as far as moto goes: it has no
// provisioned concurrency and runs nothing.
func TestMotoAgrees(t *testing.T) {
	t.Parallel()
	m := startMoto(t)
	m.post("/moto-api/config", map[string]any{"lambda": map[string]bool{"use_docker": false}})
	m.answer(50, "from moto")
	e := m.open("judged", map[string]string{"create_role": "true", "create_bucket": "true", "tags": "team=blue",
		"remove_logs": "true"})
	e.direct = 10 // so that the package goes through S3

	f := small(0)
	f.MaxConcurrency = 2
	bin := script(t, "x")
	u := unitOf(t, e, bin, f)
	mustDeploy(t, e, u)
	answers(t, e, 0, "from moto")
	s, err := e.Observe(t.Context(), u.ID)
	if err != nil || !s.Current(u) {
		t.Errorf("observed %+v, %v", s, err)
	}
	f.MemoryMB = 512
	changed := unitOf(t, e, bin, f)
	mustDeploy(t, e, changed)
	answers(t, e, 0, "from moto")
	found, err := e.List(t.Context())
	if err != nil || len(found) != 1 {
		t.Errorf("listed %v, %v", found, err)
	}
	if err := e.Restore(t.Context(), s); err != nil {
		t.Errorf("restore: %v", err)
	}
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Observe(t.Context(), u.ID); faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("what was removed: %v", err)
	}
	m.left(e)
}

// left reports what moto still holds, except the bucket, which other services may use.
func (m moto) left(e *Executor) {
	m.Helper()
	options := s3.Options{BaseEndpoint: &m.url, Region: e.region, Credentials: m.credentials(), UsePathStyle: true}
	buckets, err := s3.New(options).ListBuckets(m.Context(), nil)
	if err != nil {
		m.Fatal(err)
	}
	for _, b := range buckets.Buckets {
		objects, err := s3.New(options).ListObjectsV2(m.Context(), &s3.ListObjectsV2Input{Bucket: b.Name})
		if err != nil || len(objects.Contents) > 0 {
			m.Errorf("bucket %s has %+v, %v", *b.Name, objects, err)
		}
	}
	roles, err := iam.New(iam.Options{BaseEndpoint: &m.url, Region: e.region,
		Credentials: m.credentials()}).ListRoles(m.Context(), nil)
	if err != nil || len(roles.Roles) > 0 {
		m.Errorf("roles: %+v, %v", roles, err)
	}
	functions, err := lambda.New(lambda.Options{BaseEndpoint: &m.url, Region: e.region,
		Credentials: m.credentials()}).ListFunctions(m.Context(), nil)
	if err != nil || len(functions.Functions) > 0 {
		m.Errorf("functions: %+v, %v", functions, err)
	}
}
