package job_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// event is one invocation that the Runtime API hands out.
type event struct {
	id       string
	deadline time.Time
	payload  []byte
}

// report is what the function posts about an invocation.
type report struct {
	ID, Kind, Body string // Kind: response or error
}

// runtimeAPI serves the endpoints that a function's process calls.
func runtimeAPI(ctx context.Context, t *testing.T, events <-chan event, reports chan<- report) *httptest.Server {
	t.Helper()
	const prefix = "/2018-06-01/runtime/invocation/"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+prefix+"next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case e := <-events:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", e.id)
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(e.deadline.UnixMilli()))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:jobs")
			_, _ = w.Write(e.payload)
		case <-r.Context().Done():
		case <-ctx.Done():
		}
	})
	mux.HandleFunc("POST "+prefix+"{id}/{kind}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
		reports <- report{r.PathValue("id"), r.PathValue("kind"), string(body)}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func TestLambdaRuntimeAPI(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	events, reports := make(chan event), make(chan report, 1)
	server := runtimeAPI(ctx, t, events, reports)
	cmd, log := binaryCmd(t, "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(server.URL, "http://"),
		"PORT=1", "K_SERVICE=inherited") // Lambda comes before what a user may have set
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("stderr of the process:\n%s", log)
		}
	})
	functionError := func(kind, message string) string {
		text, err := json.Marshal(map[string]string{"errorMessage": message, "errorType": kind})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, _, malformed := faas.ParseRequest(nil, []byte(`{"job":1}`))
	for i, test := range []struct {
		name     string
		payload  []byte
		deadline time.Duration
		kind     string
		body     string
	}{
		{"output", request(echo, []byte{1, 2}), time.Hour, "response", `{"job_id":1,"result":[1,2],"success":true}`},
		{"compact", faas.AppendCompactRequest(nil, echo, []byte{1, 2}), time.Hour, "response",
			`{"job_id":1,"result":{"base64":"AQI="},"success":true}`},
		{"compact and too large", faas.AppendCompactRequest(nil, big, uint64Bytes(5<<20)), time.Hour, "error",
			functionError("TooLarge", "the response has 8388675 bytes, the platform's limit is 6291456")},
		{"error", request(fails, nil), time.Hour, "error", functionError("JobFailed", "no luck")},
		{"panic", request(panics, nil), time.Hour, "error", functionError("JobPanic", "panic: out of cheese")},
		{"Goexit", request(goexits, nil), time.Hour, "error", functionError("JobPanic", "the handler called runtime.Goexit")},
		{"unknown job", request(99, nil), time.Hour, "error",
			functionError("UnknownJob", "job 99 does not exist (jobs: [0 1 2 3 4 5 6 7 8 9 10 11])")},
		{"malformed", []byte(`{"job":1}`), time.Hour, "error", functionError("BadRequest", fmt.Sprint(malformed))},
		{"warm", []byte(faas.WarmRequest), time.Hour, "response", faas.WarmResponse},
		{"deadline", request(deadline, nil), time.Hour, "response",
			`{"job_id":8,"result":[49,104,48,109,48,115],"success":true}`},
		{"cancelled", request(waits, nil), time.Millisecond, "error",
			functionError("Cancelled", "gave up: context deadline exceeded")},
		{"too large", request(big, uint64Bytes(4<<20)), time.Hour, "error",
			functionError("TooLarge", "the response has 8388675 bytes, the platform's limit is 6291456")},
		{"prints", request(prints, []byte{3}), time.Hour, "response", `{"job_id":5,"result":[3],"success":true}`},
	} {
		e := event{fmt.Sprint("request-", i), time.Now().Add(test.deadline), test.payload}
		events <- e
		got := <-reports
		got.Body = measured.ReplaceAllString(got.Body, "")
		if test.kind == "error" {
			got.Body = digits.ReplaceAllString(sortMembers(t, got.Body), "N")
			test.body = digits.ReplaceAllString(test.body, "N")
		}
		if diff := cmp.Diff(report{e.id, test.kind, test.body}, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.name, diff)
		}
	}
}

// The comparison of long numbers leaves digits out: the size of an answer depends on how long the
// job took.
var digits = regexp.MustCompile(`[0-9]{4,}`)

// sortMembers gives a JSON object's members in the order of their names.
func sortMembers(t *testing.T, text string) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		return text
	}
	sorted, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(sorted)
}
