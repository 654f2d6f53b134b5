package job_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// host is a minimal host of one warm process.
type host struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *tail
	stdin  io.WriteCloser
	stdout io.Closer
	w      *frame.Writer
	r      *frame.Reader
	ended  bool
	hello  frame.Header
	answer map[uint64]answer // received while waiting for another
}

type answer struct {
	Kind frame.Kind
	Code frame.FailureCode
	Body string
}

func result(body string) answer { return answer{Kind: frame.Result, Body: body} }

func startHost(t *testing.T, env ...string) *host {
	t.Helper()
	cmd, log := binaryCmd(t, append([]string{frame.Env + "=" + frame.Version}, env...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, cmd: cmd, log: log, stdin: stdin, stdout: stdout, w: frame.NewWriter(stdin),
		r: frame.NewReader(stdout, 0), answer: map[uint64]answer{}}
	t.Cleanup(func() {
		if !h.ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("stderr of the process:\n%s", log)
		}
	})
	if h.hello, err = h.r.Next(); err != nil || h.hello.Kind != frame.Hello {
		t.Fatalf("the process greets with %v, %v", h.hello, err)
	}
	return h
}

func (h *host) send(header frame.Header, body []byte) {
	h.t.Helper()
	if err := h.w.Write(header, body); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) call(id uint64, job uint32, args []byte) {
	h.t.Helper()
	h.send(frame.Header{Kind: frame.Call, ID: id, Value: job}, args)
}

// await returns the answer to one call or ping.
func (h *host) await(id uint64) answer {
	h.t.Helper()
	for {
		if a, ok := h.answer[id]; ok {
			delete(h.answer, id)
			return a
		}
		header, err := h.r.Next()
		if err != nil {
			h.t.Fatal(err)
		}
		body, err := h.r.Body(nil)
		if err != nil {
			h.t.Fatal(err)
		}
		if _, dup := h.answer[header.ID]; dup {
			h.t.Fatalf("two answers to call %d", header.ID)
		}
		h.answer[header.ID] = answer{header.Kind, frame.FailureCode(header.Value), string(body)}
	}
}

// end closes the process's input and expects the process to exit with that code, without further
// output.
func (h *host) end(code int) {
	h.t.Helper()
	if err := h.stdin.Close(); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.r.Next(); err != io.EOF || len(h.answer) > 0 {
		h.t.Errorf("the process had more to say: %v and %v", err, h.answer)
	}
	h.ended = true
	_ = h.cmd.Wait()
	if got := h.cmd.ProcessState.ExitCode(); got != code {
		h.t.Errorf("exit code %d, want %d", got, code)
	}
}

func TestFramesAnswerEveryKindOfCall(t *testing.T) {
	h := startHost(t)
	large := bytes.Repeat([]byte("large "), 1<<20)
	tests := []struct {
		name string
		job  uint32
		args []byte
		want answer
	}{
		{"output", square, uint64Bytes(12), result(string(uint64Bytes(144)))},
		{"nothing", echo, nil, result("")},
		{"large", echo, large, result(string(large))},
		{"error", fails, nil, answer{frame.Failure, frame.JobFailed, "no luck"}},
		{"panic", panics, nil, answer{frame.Failure, frame.JobPanic, "panic: out of cheese"}},
		{"Goexit", goexits, nil, answer{frame.Failure, frame.JobPanic, "the handler called runtime.Goexit"}},
		{"prints", prints, []byte("x"), result("x")},
		{"reads stdin", readsStdin, nil, result("")},
		{"no deadline", deadline, nil, result("none")},
		{"nil handler", absent, nil, answer{frame.Failure, frame.UnknownJob,
			"job 12 does not exist (jobs: [0 1 2 3 4 5 6 7 8 9 10 11])"}},
		{"too large", big, uint64Bytes(frame.MaxBody + 1),
			answer{frame.Failure, frame.TooLarge, "the output has 268435457 bytes, the limit is 268435456"}},
	}
	for round := range 3 { // a job is treated differently once it is known to be fast
		for i, test := range tests {
			id := uint64(round*len(tests) + i + 1)
			h.call(id, test.job, test.args)
			if diff := cmp.Diff(test.want, h.await(id)); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", test.name, diff)
			}
		}
	}
	h.end(0)
	for _, want := range []string{"printed by Go", "printed by a child on its own", "out of cheese",
		"faas/job_test.jobs"} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("stderr lacks %q", want)
		}
	}
}

func TestFramesCarryDeadlineAndCancel(t *testing.T) {
	h := startHost(t)
	h.send(frame.Header{Kind: frame.Call, ID: 1, Value: deadline, DeadlineMS: 3_600_000}, nil)
	if diff := cmp.Diff(result("1h0m0s"), h.await(1)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h.send(frame.Header{Kind: frame.Call, ID: 2, Value: waits, DeadlineMS: 1}, nil)
	if diff := cmp.Diff(answer{frame.Failure, frame.Cancelled, "gave up: context deadline exceeded"},
		h.await(2)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h.call(3, waits, nil)
	h.send(frame.Header{Kind: frame.Cancel, ID: 3}, nil)
	h.send(frame.Header{Kind: frame.Cancel, ID: 999}, nil) // answered long ago, as far as the process can tell
	if diff := cmp.Diff(answer{frame.Failure, frame.Cancelled, "gave up: context canceled"}, h.await(3)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h.end(0)
}

func TestACallThatTakesLongHoldsUpNothing(t *testing.T) {
	h := startHost(t)
	for id := uint64(1); id <= 200; id++ { // by now the process takes this job for a fast one
		h.call(id, gated, []byte(filepath.Join(t.TempDir(), "missing", "directory")))
		if got := h.await(id); got.Code != frame.JobFailed {
			t.Fatalf("got %v", got)
		}
	}
	gate := filepath.Join(t.TempDir(), "gate")
	h.call(1001, gated, []byte(gate))
	h.call(1002, echo, []byte("x"))
	h.send(frame.Header{Kind: frame.Ping, ID: 1003}, nil)
	if diff := cmp.Diff(answer{Kind: frame.Pong}, h.await(1003)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(result("x"), h.await(1002)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	await(t, "the call to start", func() bool { _, err := os.Stat(gate); return err == nil })
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(result("done"), h.await(1001)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h.end(0)
}

func TestTheEndOfInputLetsCallsFinish(t *testing.T) {
	h := startHost(t)
	gate := filepath.Join(t.TempDir(), "gate")
	h.call(1, gated, []byte(gate))
	await(t, "the call to start", func() bool { _, err := os.Stat(gate); return err == nil })
	if err := h.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(result("done"), h.await(1)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h.ended = true
	if err := h.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAHostThatIsGoneEndsTheCallsInFlight(t *testing.T) {
	h := startHost(t)
	if err := h.stdout.Close(); err != nil {
		t.Fatal(err)
	}
	h.call(1, waits, nil)
	h.call(2, echo, nil)
	_ = h.stdin.Close() // the process may have ended already
	h.ended = true
	_ = h.cmd.Wait()
	if code := h.cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
}

func TestManyConcurrentCallsAreEachAnsweredOnce(t *testing.T) {
	h := startHost(t)
	const calls = 100
	for round := range uint64(20) {
		var wg sync.WaitGroup
		for i := range uint64(calls) {
			wg.Go(func() {
				id := round*calls + i + 1
				if err := h.w.Write(frame.Header{Kind: frame.Call, ID: id, Value: square, DeadlineMS: 60_000},
					uint64Bytes(id)); err != nil {
					t.Error(err)
				}
			})
		}
		for i := range uint64(calls) {
			id := round*calls + i + 1
			if diff := cmp.Diff(result(string(uint64Bytes(id*id))), h.await(id)); diff != "" {
				t.Fatalf("call %d: (-want +got)\n%s", id, diff)
			}
		}
		wg.Wait()
	}
	h.end(0)
}

func TestAHostThatBreaksTheProtocolEndsTheProcess(t *testing.T) {
	call := frame.AppendHeader(nil, frame.Header{Kind: frame.Call, ID: 1, Value: waits})
	for name, stream := range map[string][]byte{
		"text":               []byte(`{"job_id":0,"args":[1,2,3]}`),
		"unknown kind":       frame.AppendHeader(nil, frame.Header{Kind: 99}),
		"frame of a job":     frame.AppendHeader(nil, frame.Header{Kind: frame.Result}),
		"cut header":         call[:10],
		"cut body":           frame.AppendHeader(nil, frame.Header{Kind: frame.Call, Length: 10}),
		"call id used twice": bytes.Repeat(call, 2),
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t)
			if _, err := h.stdin.Write(stream); err != nil {
				t.Fatal(err)
			}
			_ = h.stdin.Close()
			_, _ = io.Copy(io.Discard, readerOf(h))
			h.ended = true
			_ = h.cmd.Wait()
			if code := h.cmd.ProcessState.ExitCode(); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if !strings.Contains(h.log.String(), "frame") && !strings.Contains(h.log.String(), "EOF") {
				t.Errorf("stderr says only %q", h.log)
			}
		})
	}
}

// readerOf drains the rest of the process's output.
func readerOf(h *host) io.Reader {
	for {
		if _, err := h.r.Next(); err != nil {
			return strings.NewReader("")
		}
	}
}

func TestConcurrencyIsAnnounced(t *testing.T) {
	if got := startHost(t).hello.Value; got < 64 {
		t.Errorf("by default %d calls at a time, want at least 64", got)
	}
	h := startHost(t, job.ConcurrencyEnv+"=3")
	if h.hello.Value != 3 {
		t.Errorf("%d calls at a time, want 3", h.hello.Value)
	}
	h.end(0)
	for _, bad := range []string{"0", "-1", "many", "65537", "1.5"} {
		cmd, log := binaryCmd(t, frame.Env+"="+frame.Version, job.ConcurrencyEnv+"="+bad)
		if err := cmd.Run(); fmt.Sprint(err) != "exit status 2" || !strings.Contains(log.String(), job.ConcurrencyEnv) {
			t.Errorf("%q: %v, %s", bad, err, log)
		}
	}
}

func TestAProtocolOfTheFutureIsRefused(t *testing.T) {
	cmd, log := binaryCmd(t, frame.Env+"=frames/99")
	if err := cmd.Run(); fmt.Sprint(err) != "exit status 2" || !strings.Contains(log.String(), frame.Version) {
		t.Errorf("%v, %s", err, log)
	}
}

// A runner may answer calls. A program that the runner starts with the same environment was not
// offered to: it must not speak frames to a program that expects something else.
func TestARunnerMaySpeakFramesAndWhatItStartsDoesNot(t *testing.T) {
	h := startHost(t, frame.Env+"="+frame.Offer())
	h.call(1, echo, []byte("hello"))
	if got := h.await(1); got != result("hello") {
		t.Errorf("answer %+v", got)
	}
	h.end(0)
	cmd, log := binaryCmd(t, frame.Env+"="+frame.Offer())
	cmd.Args = append([]string{"sh", "-c", `"$0"; exit $?`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Stdin = bytes.NewReader(request(echo, []byte("x")))
	out, err := cmd.Output()
	if err != nil || !bytes.Contains(out, []byte(`"success":true`)) {
		t.Errorf("%v: %q, %s", err, out, log)
	}
}
