//go:build unix

package lambdatest

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"golang.org/x/sys/unix"
)

// running returns a Lambda that runs a shell script as its bootstrap.
func running(t *testing.T, script string) tester {
	t.Helper()
	l := newTester(t, Config{Pending: -1, Updating: -1})
	l.zip = packed(t, "bootstrap", "#!/bin/sh\n"+script+"\n")
	l.create("f", 0)
	return l
}

func TestABootstrapThatDoesNotStart(t *testing.T) {
	t.Parallel()
	l := running(t, "echo no moon today >&2; exit 3")
	out, err := l.client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), LogType: "Tail"})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(out.FunctionError) != "Unhandled" ||
		!strings.Contains(string(out.Payload), `"errorType":"Runtime.ExitError"`) {
		t.Errorf("the answer is %s", out.Payload)
	}
	log, err := base64.StdEncoding.DecodeString(*out.LogResult)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"INIT_REPORT Init Duration: ", "Phase: init\tStatus: error\tError Type: Runtime.ExitError",
		"no moon today\n", "\tStatus: error\tError Type: Runtime.ExitError\n",
	} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the log %q lacks %q", log, want)
		}
	}
}

// The test acts as the runtime of a process that does nothing.
func TestTheRuntimeIsToldThatItsAnswerIsTooLarge(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	l := running(t, `printf %s "$AWS_LAMBDA_RUNTIME_API" > '`+pipe+`'; exec sleep 600`)
	answers := make(chan *lambda.InvokeOutput, 1)
	go func() {
		out, err := l.client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f")})
		if err != nil {
			t.Error(err)
		}
		answers <- out
	}()
	api, err := os.ReadFile(pipe) // it waits until the process writes
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	call := func(method, path string, body []byte) *http.Response {
		url := "http://" + string(api) + "/2018-06-01/runtime/invocation/" + path
		req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	next := call("GET", "next", nil)
	answer := bytes.Repeat([]byte("1"), maxSyncAnswer+1)
	path := next.Header.Get("Lambda-Runtime-Aws-Request-Id") + "/response"
	if resp := call("POST", path, answer); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("the runtime is told %s", resp.Status)
	}
	if out := <-answers; out != nil && !strings.Contains(string(out.Payload), "Function.ResponseSizeTooLarge") {
		t.Errorf("the caller is told %s", out.Payload)
	}
}
