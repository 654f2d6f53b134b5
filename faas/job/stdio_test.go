package job_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
)

func request(id uint32, args []byte) []byte { return faas.AppendRequest(nil, id, args) }

// measured are the members that differ from run to run, also inside a JSON string.
var measured = regexp.MustCompile(`,\\?"(execution_ms|memory_used_mb)\\?":[0-9.]+`)

// TestStdioAnswersOneRequest runs real processes. Exit code and stdout must agree.
func TestStdioAnswersOneRequest(t *testing.T) {
	for name, test := range map[string]struct {
		request  []byte
		stdout   string
		exitCode int
		stderr   string
	}{
		"output":  {request(echo, []byte{1, 255}), `{"job_id":1,"result":[1,255],"success":true}`, 0, ""},
		"nothing": {request(echo, nil), `{"job_id":1,"result":[],"success":true}`, 0, ""},
		"compact": {faas.AppendCompactRequest(nil, echo, []byte{1, 255}),
			`{"job_id":1,"result":{"base64":"Af8="},"success":true}`, 0, ""},
		"spaced": {[]byte("\n { \"args\" : [ 7 ] , \"job_id\" : 1 } \n"), `{"job_id":1,"result":[7],"success":true}`, 0,
			""},
		"prints":      {request(prints, []byte{5}), `{"job_id":5,"result":[5],"success":true}`, 0, "printed by a child"},
		"reads stdin": {request(readsStdin, nil), `{"job_id":10,"result":[],"success":true}`, 0, ""},
		"warm":        {[]byte(faas.WarmRequest), faas.WarmResponse, 0, ""},
		"error":       {request(fails, nil), `{"job_id":2,"result":[],"success":false,"error":"no luck"}`, 1, "no luck"},
		"panic": {request(panics, nil), `{"job_id":3,"result":[],"success":false,"error":"panic: out of cheese"}`, 1,
			"out of cheese"},
		"Goexit": {request(goexits, nil),
			`{"job_id":4,"result":[],"success":false,"error":"the handler called runtime.Goexit"}`, 1, "Goexit"},
		"unknown job": {request(99, nil), `{"job_id":99,"result":[],"success":false,` +
			`"error":"job 99 does not exist (jobs: [0 1 2 3 4 5 6 7 8 9 10 11])"}`, 2, "job 99"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, log := binaryCmd(t)
			var stdout bytes.Buffer
			cmd.Stdin, cmd.Stdout = bytes.NewReader(test.request), &stdout
			_ = cmd.Run() // the exit code says it
			got := measured.ReplaceAllString(stdout.String(), "")
			if diff := cmp.Diff(test.stdout+"\n", got); diff != "" {
				t.Errorf("stdout (-want +got)\n%s", diff)
			}
			if code := cmd.ProcessState.ExitCode(); code != test.exitCode {
				t.Errorf("exit code %d, want %d", code, test.exitCode)
			}
			if !strings.Contains(log.String(), test.stderr) || test.exitCode == 0 && strings.Contains(log.String(), "job:") {
				t.Errorf("stderr: %s", log)
			}
		})
	}
}

func TestStdioRefusesWhatIsNoRequest(t *testing.T) {
	for _, text := range []string{"", "{}", "garbage", `{"job_id":0}`, `{"job_id":0,"args":[256]}`,
		`{"job_id":0,"args":[]}x`} {
		var stdout, stderr bytes.Buffer
		err := job.Run(context.Background(), jobs(), job.WithEnv(noEnv),
			job.WithStreams(strings.NewReader(text), &stdout, &stderr))
		if !errors.Is(err, job.ErrBadRequest) {
			t.Errorf("%q: %v, want ErrBadRequest", text, err)
		}
		var answer faas.Response
		if perr := faas.ParseResponse(bytes.TrimSpace(stdout.Bytes()), &answer); perr != nil || answer.Success ||
			answer.Error == "" {
			t.Errorf("%q: stdout is %q", text, stdout.String())
		}
	}
}

func noEnv(string) (string, bool) { return "", false }

type brokenStream struct{}

var errBroken = errors.New("broken stream")

func (brokenStream) Read([]byte) (int, error)  { return 0, errBroken }
func (brokenStream) Write([]byte) (int, error) { return 0, errBroken }

func TestBrokenStreamsAreErrors(t *testing.T) {
	var out bytes.Buffer
	for name, opt := range map[string]job.Option{
		"stdin":  job.WithStreams(brokenStream{}, &out, &out),
		"stdout": job.WithStreams(bytes.NewReader(request(echo, nil)), brokenStream{}, &out),
	} {
		if err := job.Run(context.Background(), jobs(), job.WithEnv(noEnv), opt); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequestedIsTrueForEveryProtocolThatIsAskedFor(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"BLUEPRINT_JOB_PROTOCOL": "frames/1"}, true},
		{map[string]string{"BLUEPRINT_JOB_PROTOCOL": "frames/2"}, true}, // for Main to refuse
		{map[string]string{"BLUEPRINT_JOB_PROTOCOL": fmt.Sprintf("runner/1/%d", os.Getppid()), "K_SERVICE": "s",
			"PORT": "8080"}, false},
		// inherited: nothing is asked of this process
		{map[string]string{"BLUEPRINT_JOB_PROTOCOL": "runner/1/1234567890"}, false},
		{map[string]string{"BLUEPRINT_JOB_PROTOCOL": "runner/1/1234567890", "K_SERVICE": "s", "PORT": "8080"}, true},
		{map[string]string{"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}, true},
		{map[string]string{"FUNCTIONS_CUSTOMHANDLER_PORT": "8080"}, true},
		{map[string]string{"K_SERVICE": "s", "PORT": "8080"}, true},
		{map[string]string{"K_SERVICE": "s"}, false},
		{map[string]string{"PORT": "8080"}, false},
	} {
		t.Run(fmt.Sprint(test.env), func(t *testing.T) {
			for _, name := range []string{"BLUEPRINT_JOB_PROTOCOL", "AWS_LAMBDA_RUNTIME_API", "FUNCTIONS_CUSTOMHANDLER_PORT",
				"K_SERVICE", "PORT"} {
				t.Setenv(name, test.env[name])
			}
			if got := job.Requested(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
