package job_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
)

// protocols is the marker, which the text of the test binary must not contain in one piece.
var protocols = strings.Join([]string{"blueprint-serverless/job/protocols/1:lambda", "azure", "http", "frames",
	"stdio"}, ",")

// httpProcess is the test binary serving HTTP.
type httpProcess struct {
	base   string
	cmd    *exec.Cmd
	log    *tail
	client *http.Client
}

// freePort returns a port that was free a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// startHTTP starts the test binary on a free port, and waits until it answers. It puts the port
// in place of %s in env.
func startHTTP(t *testing.T, env ...string) *httpProcess {
	t.Helper()
	port := freePort(t)
	for i := range env {
		env[i] = strings.ReplaceAll(env[i], "%s", port)
	}
	cmd, log := binaryCmd(t, env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	p := &httpProcess{base: "http://127.0.0.1:" + port, cmd: cmd, log: log, client: &http.Client{Transport: transport}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("stderr of the process:\n%s", log)
		}
	})
	await(t, "the process to listen", func() bool {
		resp, err := p.client.Get(p.base + "/")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == 200 && string(body) == protocols+"\n"
	})
	return p
}

// do sends a request and returns the status, and the body without its measurements.
func (p *httpProcess) do(t *testing.T, method, path string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.base+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, measured.ReplaceAllString(string(text), "")
}

type httpAnswer struct {
	Status int
	Body   string
}

const (
	cloudRunService = "K_SERVICE=jobs"
	cloudRunPort    = "PORT=%s"
	azurePort       = "FUNCTIONS_CUSTOMHANDLER_PORT=%s"
)

func TestHTTPAnswersAsTheCustomProtocolSays(t *testing.T) {
	malformed := func(text string) string {
		_, _, err := faas.ParseRequest(nil, []byte(text))
		quoted, _ := json.Marshal(fmt.Sprint(err))
		return `{"error":` + string(quoted) + `,"code":"INVALID_REQUEST","details":{}}`
	}
	for name, env := range map[string][]string{"Cloud Run": {cloudRunService, cloudRunPort}, "Azure": {azurePort}} {
		t.Run(name, func(t *testing.T) {
			p := startHTTP(t, env...)
			for _, test := range []struct {
				method, path string
				body         []byte
				want         httpAnswer
			}{
				{"POST", "/", request(echo, []byte{1, 2}), httpAnswer{200, `{"job_id":1,"result":[1,2],"success":true}`}},
				{"POST", "/job/1", request(echo, []byte{3}), httpAnswer{200, `{"job_id":1,"result":[3],"success":true}`}},
				{"POST", "/api/job1", request(echo, nil), httpAnswer{200, `{"job_id":1,"result":[],"success":true}`}},
				{"POST", "/api/functions/x/invoke", request(echo, nil), httpAnswer{200, `{"job_id":1,"result":[],"success":true}`}},
				{"POST", "/", faas.AppendCompactRequest(nil, echo, []byte{1, 2}),
					httpAnswer{200, `{"job_id":1,"result":{"base64":"AQI="},"success":true}`}},
				{"POST", "/", request(prints, []byte{9}), httpAnswer{200, `{"job_id":5,"result":[9],"success":true}`}},
				{"POST", "/", request(fails, nil), httpAnswer{500, `{"job_id":2,"result":[],"success":false,"error":"no luck"}`}},
				{"POST", "/", request(panics, nil), httpAnswer{
					500, `{"job_id":3,"result":[],"success":false,"error":"panic: out of cheese"}`}},
				{"POST", "/", request(goexits, nil), httpAnswer{
					500, `{"job_id":4,"result":[],"success":false,"error":"the handler called runtime.Goexit"}`}},
				{"POST", "/", request(99, nil), httpAnswer{
					404, `{"error":"job 99 does not exist (jobs: [0 1 2 3 4 5 6 7 8 9 10 11])","code":"NOT_FOUND","details":{}}`}},
				{"POST", "/", []byte("garbage"), httpAnswer{400, malformed("garbage")}},
				{"POST", "/", nil, httpAnswer{400, malformed("")}},
				{"POST", "/", []byte(`{"job_id":0,"args":[256]}`), httpAnswer{400, malformed(`{"job_id":0,"args":[256]}`)}},
				{"POST", "/", []byte(faas.WarmRequest), httpAnswer{200, faas.WarmResponse}},
				{"GET", "/", nil, httpAnswer{200, protocols + "\n"}},
				{"GET", "/healthz", nil, httpAnswer{200, protocols + "\n"}},
				{"HEAD", "/job/1", nil, httpAnswer{200, ""}},
				{"GET", "/job/1", nil, httpAnswer{404,
					`{"error":"there is nothing to get here; invoke a job with POST","code":"NOT_FOUND","details":{}}`}},
				{"DELETE", "/", nil, httpAnswer{405,
					`{"error":"invoke a job with POST","code":"METHOD_NOT_ALLOWED","details":{}}`}},
			} {
				status, body := p.do(t, test.method, test.path, test.body)
				if diff := cmp.Diff(test.want, httpAnswer{status, body}); diff != "" {
					t.Errorf("%s %s %s: (-want +got)\n%s", test.method, test.path, test.body, diff)
				}
			}
		})
	}
}

func TestHTTPServesConcurrentRequests(t *testing.T) {
	p := startHTTP(t, cloudRunService, cloudRunPort)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			status, body := p.do(t, "POST", "/", request(echo, []byte{byte(i)}))
			want := httpAnswer{200, fmt.Sprintf(`{"job_id":1,"result":[%d],"success":true}`, i)}
			if diff := cmp.Diff(want, httpAnswer{status, body}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	wg.Wait()
}

// endless is a body that never ends; read counts how much was read.
type endless struct{ read int64 }

func (e *endless) Read(b []byte) (int, error) {
	e.read += int64(len(b))
	clear(b)
	return len(b), nil
}

func TestHTTPRefusesWhatIsTooLarge(t *testing.T) {
	p := startHTTP(t, cloudRunService, cloudRunPort)
	t.Run("announced", func(t *testing.T) {
		body := &endless{}
		req, err := http.NewRequestWithContext(t.Context(), "POST", p.base, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 1 << 40
		req.Header.Set("Expect", "100-continue")
		client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 1 << 40, DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 413 || body.read > 0 {
			t.Errorf("status %d after %d bytes of the body, want 413 before the first", resp.StatusCode, body.read)
		}
	})
	t.Run("counted", func(t *testing.T) {
		body := io.LimitReader(&endless{}, 32<<20+1)
		resp, err := p.client.Post(p.base, "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("status %d, want 413", resp.StatusCode)
		}
	})
	t.Run("response", func(t *testing.T) {
		status, body := p.do(t, "POST", "/", request(big, uint64Bytes(17<<20)))
		want := httpAnswer{500, `{"job_id":9,"result":[],"success":false,"error":"the response has`}
		if diff := cmp.Diff(want, httpAnswer{status, body[:min(len(body), len(want.Body))]}); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
	if status, _ := p.do(t, "POST", "/", request(echo, nil)); status != 200 {
		t.Errorf("after that, status %d", status)
	}
}

func TestHTTPCancelsTheJobOfAClientThatLeft(t *testing.T) {
	left := make(chan error, 1)
	started := make(chan struct{})
	handlers := job.Handlers{0: func(ctx context.Context, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		left <- ctx.Err()
		return nil, ctx.Err()
	}}
	base, stop := runHTTP(t, handlers)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", base, bytes.NewReader(request(0, nil)))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-started
		cancel()
	}()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("the request was answered")
	}
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the job's context ended with %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// runHTTP runs the handlers in this process. stop makes Run end, and returns its error.
func runHTTP(t testing.TB, h job.Handlers) (base string, stop func() error) {
	t.Helper()
	port := freePort(t)
	env := map[string]string{"K_SERVICE": "jobs", "PORT": port}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- job.Run(ctx, h, job.WithEnv(lookup)) }()
	base = "http://127.0.0.1:" + port
	await(t, "the server to listen", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return base, func() error {
		cancel()
		defer http.DefaultClient.CloseIdleConnections()
		return <-ended
	}
}

func TestHTTPFinishesWhatIsInFlightOnSIGTERM(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM")
	}
	p := startHTTP(t, cloudRunService, cloudRunPort)
	gate := filepath.Join(t.TempDir(), "gate")
	answered := make(chan httpAnswer, 1)
	go func() {
		status, body := p.do(t, "POST", "/", request(gated, []byte(gate)))
		answered <- httpAnswer{status, body}
	}()
	await(t, "the call to start", func() bool { _, err := os.Stat(gate); return err == nil })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, "the process to stop listening", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.base, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(httpAnswer{200, `{"job_id":7,"result":[100,111,110,101],"success":true}`},
		<-answered); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
}

func TestABadPortIsRefused(t *testing.T) {
	for _, env := range [][]string{
		{cloudRunService, "PORT=none"},
		{cloudRunService, "PORT=0"},
		{"FUNCTIONS_CUSTOMHANDLER_PORT=70000"},
		{"FUNCTIONS_CUSTOMHANDLER_PORT=1; rm"},
	} {
		cmd, log := binaryCmd(t, env...)
		if err := cmd.Run(); fmt.Sprint(err) != "exit status 2" ||
			!strings.Contains(log.String(), "PORT is not a port number") {
			t.Errorf("%q: %v, %s", env, err, log)
		}
	}
}

func TestAzureEnvelopes(t *testing.T) {
	p := startHTTP(t, azurePort)
	str := func(text []byte) string {
		quoted, err := json.Marshal(string(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(quoted)
	}
	trigger := func(body string) []byte {
		return fmt.Appendf(nil, `{"Data":{"req":{"Url":"https://x.example/api/job1","Method":"POST",`+
			`"Query":{},"Headers":{},"Params":{},"Body":%s}},`+
			`"Metadata":{"sys":{"MethodName":"job1"}}}`, body)
	}
	res := func(status int, body string) httpAnswer {
		return httpAnswer{200, fmt.Sprintf(`{"Outputs":{"res":{"statusCode":%d,`+
			`"headers":{"Content-Type":"application/json"},"body":%s}},`+
			`"Logs":[],"ReturnValue":null}`, status, str([]byte(body)))}
	}
	for name, test := range map[string]struct {
		body []byte
		want httpAnswer
	}{
		"text": {trigger(str(request(echo, []byte{4}))), res(200, `{"job_id":1,"result":[4],"success":true}`)},
		"JSON": {trigger(string(request(echo, []byte{4}))), res(200, `{"job_id":1,"result":[4],"success":true}`)},
		"compact": {trigger(str(faas.AppendCompactRequest(nil, echo, []byte{4}))),
			res(200, `{"job_id":1,"result":{"base64":"BA=="},"success":true}`)},
		"failure": {trigger(str(request(fails, nil))),
			res(500, `{"job_id":2,"result":[],"success":false,"error":"no luck"}`)},
		"unknown job": {trigger(str(request(99, nil))),
			res(404, `{"error":"job 99 does not exist (jobs: [0 1 2 3 4 5 6 7 8 9 10 11])","code":"NOT_FOUND","details":{}}`)},
		"warm": {trigger(str([]byte(faas.WarmRequest))), res(200, faas.WarmResponse)},
		"queue": {
			[]byte(`{"Data":{"item":` + str(request(echo, []byte{5})) + `},"Metadata":{}}`),
			httpAnswer{200, `{"Outputs":{},"Logs":[],"ReturnValue":` + str([]byte(`{"job_id":1,"result":[5],"success":true}`)) +
				`}`},
		},
		"queue failure": {
			[]byte(`{"Data":{"item":` + str(request(fails, nil)) + `},"Metadata":{}}`),
			httpAnswer{500, `{"job_id":2,"result":[],"success":false,"error":"no luck"}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := p.do(t, "POST", "/job1", test.body)
			if diff := cmp.Diff(test.want, httpAnswer{status, body}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
