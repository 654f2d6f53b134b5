//go:build linux

// Package job is the source that Google builds around a job binary that speaks only stdin and
// stdout. It serves HTTP, and runs the binary once per invocation with the request on stdin.
//
// It uses the standard library only, and must compile with every version of Go that Google offers.
package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxBody = 32 << 20 // bytes of a request and of an answer, which is Google's limit
	maxTail = 2 << 10  // bytes that are kept of stderr for an error
	// patience is how long processes that the binary left running may hold its stdout open.
	patience = 500 * time.Millisecond
)

// places are where the build leaves the files of the package, the likeliest first.
var places = []string{
	"serverless_function_source_code/bootstrap", "bootstrap", "/workspace/serverless_function_source_code/bootstrap",
	"/workspace/bootstrap",
}

var (
	once    sync.Once
	program string
	missing error
)

// find looks for the binary once, and makes it executable if its permission was lost on the way.
func find() (string, error) {
	once.Do(func() {
		missing = errors.New("bootstrap is not in the package")
		for _, path := range places {
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			if program, missing = filepath.Abs(path); missing == nil && info.Mode()&0o111 == 0 && os.Chmod(path, 0o755) != nil {
				program, missing = copied(path)
			}
			return
		}
	})
	return program, missing
}

func copied(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	to := filepath.Join(os.TempDir(), "bootstrap")
	return to, os.WriteFile(to, text, 0o755)
}

// Job is the entry point that the build asks for.
func Job(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusOK) // a probe
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		answer(w, http.StatusBadRequest, failure{Error: "reading the request: " + err.Error(), Code: "INVALID_REQUEST"})
		return
	}
	if len(body) > maxBody {
		answer(w, http.StatusRequestEntityTooLarge, failure{Error: "the request is larger than 32 MiB", Code: "TOO_LARGE"})
		return
	}
	if len(body) > 0 && body[0] == 0 { // the raw form, of a caller who takes the function for what it was before
		answer(w, http.StatusUnsupportedMediaType, failure{Error: "the binary takes JSON", Code: "UNSUPPORTED"})
		return
	}
	var call struct {
		Warm  bool            `json:"warm"`
		JobID uint32          `json:"job_id"`
		Args  json.RawMessage `json:"args"`
	}
	_ = json.Unmarshal(body, &call) // the binary says what is wrong with it
	if call.Warm && call.Args == nil {
		answer(w, http.StatusOK, map[string]bool{"warm": true})
		return
	}
	output, failed := run(r.Context(), body)
	if failed != nil && errors.Is(r.Context().Err(), context.DeadlineExceeded) {
		http.Error(w, "the call took longer than its timeout", http.StatusGatewayTimeout) // as Google's front end says it
		return
	}
	if failed != nil {
		failed.JobID = call.JobID
		answer(w, http.StatusInternalServerError, failed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(output)
}

// failure is the protocol's answer for a job that failed, or, with a code, for a request that
// reached none.
type failure struct {
	JobID   uint32   `json:"job_id"`
	Success bool     `json:"success"`
	Error   string   `json:"error"`
	Code    string   `json:"code,omitempty"`
	Details *details `json:"details,omitempty"`
}

type details struct {
	ExitCode int    `json:"exit_code"`
	LogTail  string `json:"log_tail"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// run runs the binary in a process group of its own, which ends with the request.
func run(ctx context.Context, body []byte) ([]byte, *failure) {
	path, err := find()
	if err != nil {
		return nil, &failure{Error: err.Error(), Code: "START"}
	}
	var tail tailWriter
	var output limitedBuffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(body), &output, io.MultiWriter(os.Stderr, &tail)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = patience
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // the binary itself ended well
	}
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left running
	}
	var exited *exec.ExitError
	text := bytes.TrimSpace(output.buf.Bytes())
	switch {
	case output.over:
		return nil, &failure{Error: "the answer is larger than 32 MiB", Code: "TOO_LARGE"}
	case err != nil && errors.As(err, &exited):
		return nil, &failure{Error: message(text, err), Code: "exit", Details: &details{exited.ExitCode(), tail.String()}}
	case err != nil:
		return nil, &failure{Error: err.Error(), Code: "START"}
	case len(text) == 0:
		return nil, &failure{Error: "the binary wrote no answer", Code: "exit", Details: &details{0, tail.String()}}
	}
	return text, nil
}

// message returns what the binary says of its failure, if it says something.
func message(output []byte, err error) string {
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(output, &said) == nil && said.Error != "" {
		return said.Error
	}
	return err.Error()
}

// limitedBuffer keeps at most maxBody bytes.
type limitedBuffer struct {
	buf  bytes.Buffer
	over bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > maxBody {
		b.over = true
		return len(p), nil // the process ends by itself
	}
	return b.buf.Write(p)
}

// tailWriter keeps the end of what is written.
type tailWriter struct{ text []byte }

func (t *tailWriter) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if len(t.text) > maxTail {
		t.text = append([]byte(nil), t.text[len(t.text)-maxTail:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string { return strings.ToValidUTF8(string(t.text), "?") }
