package custom_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// server answers every request with one handler.
func server(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestInvokeClassifiesEveryAnswer(t *testing.T) {
	const failed = `{"job_id":3,"result":[],"success":false,"error":"it broke"`
	for name, test := range map[string]struct {
		status int
		body   string
		want   faas.Code // empty: success
		text   string    // in the error, or the output
		notRun bool
	}{
		"whole answer": {200, `{"job_id":3,"result":[104,105],"success":true,"execution_ms":1.5,"memory_used_mb":12}`, "",
			"hi", false},
		"only a result":   {200, `{"result":[104,105]}`, "", "hi", false},
		"an empty result": {200, `{"job_id":3,"result":[],"success":true}`, "", "", false},
		"another job's answer": {200, `{"job_id":4,"result":[],"success":true}`, faas.ErrUnavailable, "job 4",
			false},
		"job 0's answer": {200, `{"job_id":0,"result":[],"success":true}`, faas.ErrUnavailable, "job 0",
			false},
		"garbage": {200, `<html>hello`, faas.ErrUnavailable, "<html>hello", false},
		"a success without a result": {200, `{"job_id":3,"success":true,"execution_ms":2}`, faas.ErrUnavailable,
			"no result", false},
		"an object with nothing in it":  {200, `{}`, faas.ErrUnavailable, "{}", false},
		"nothing":                       {200, ``, faas.ErrUnavailable, "empty", false},
		"a result out of range":         {200, `{"result":[256]}`, faas.ErrUnavailable, "256", false},
		"failure with 200":              {200, failed + `}`, faas.ErrFunctionFailed, "it broke", false},
		"failure with 500":              {500, failed + `}`, faas.ErrFunctionFailed, "it broke", false},
		"failure with a timeout's code": {500, failed + `,"code":"TIMEOUT"}`, faas.ErrTimeout, "it broke", false},
		"timeout in the error shape": {500, `{"error":"too slow","code":"TIMEOUT","details":{}}`, faas.ErrTimeout,
			"too slow", false},
		"platform error": {500, `{"error":"disk full","code":"INTERNAL","details":{}}`, faas.ErrUnavailable,
			"disk full", false},
		"malformed": {400, `{"error":"args","code":"X","details":{}}`, faas.ErrInvalidArgument, "args",
			false},
		"no authorization":             {401, `{"error":"who?"}`, faas.ErrPermissionDenied, "who?", true},
		"forbidden":                    {403, ``, faas.ErrPermissionDenied, "403", true},
		"no function":                  {404, `{"error":"no such function"}`, faas.ErrNotFound, "no such function", true},
		"request timeout":              {408, ``, faas.ErrTimeout, "408", false},
		"conflict":                     {409, `{"error":"busy"}`, faas.ErrConflict, "busy", false},
		"too large":                    {413, `{"error":"big"}`, faas.ErrTooLarge, "big", true},
		"throttled":                    {429, `{"error":"slow down"}`, faas.ErrThrottled, "slow down", true},
		"cannot":                       {501, ``, faas.ErrUnsupported, "501", true},
		"bad gateway":                  {502, `Bad Gateway`, faas.ErrUnavailable, "Bad Gateway", false},
		"function died at the gateway": {502, failed + `}`, faas.ErrFunctionFailed, "it broke", false},
		"unavailable":                  {503, ``, faas.ErrUnavailable, "503", false},
		"did not run, it says": {503, `{"error":"full","code":"UNAVAILABLE","details":{"not_run":true}}`,
			faas.ErrUnavailable, "full", true},
		"an answer that is too large": {500, failed + `,"code":"TOO_LARGE"}`, faas.ErrTooLarge, "it broke", false},
		"gateway timeout":             {504, ``, faas.ErrTimeout, "504", false},
		"an error object":             {503, `{"error":{"message":"deep"}}`, faas.ErrUnavailable, "deep", false},
		"control characters":          {503, "{\"error\":\"a\\u001b[31mb\"}", faas.ErrUnavailable, "a\uFFFD[31mb", false},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			url := server(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			e := open(t, faas.Config{Endpoint: url, Options: map[string]string{"mode": "deploy"}})
			r, err := e.Invoke(t.Context(), 3, []byte("x"))
			if calls.Load() != 1 {
				t.Errorf("%d calls were made", calls.Load())
			}
			if test.want == "" {
				if err != nil || string(r.Output) != test.text || r.Output == nil {
					t.Fatalf("got %+v and error %v, want output %q", r, err, test.text)
				}
				if test.body == `{"job_id":3,"result":[104,105],"success":true,"execution_ms":1.5,"memory_used_mb":12}` &&
					(r.Metrics.Execution != 1500*time.Microsecond || r.Metrics.MemoryMB != 12 || r.Metrics.Total <= 0) {
					t.Errorf("metrics are %+v", r.Metrics)
				}
				return
			}
			var e2 *faas.Error
			if r != nil || !errors.As(err, &e2) || e2.Code != test.want || e2.JobID != 3 || e2.NotRun != test.notRun ||
				!strings.Contains(err.Error(), test.text) {
				t.Fatalf("got %v and %+v, want code %q with %q, NotRun %v", r, err, test.want, test.text, test.notRun)
			}
			if test.want == faas.ErrThrottled && e2.RetryAfter != 7*time.Second {
				t.Errorf("RetryAfter is %v", e2.RetryAfter)
			}
		})
	}
}

func TestWhatAPlatformTellsOfAFailureIsKept(t *testing.T) {
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"job_id":0,"result":[],"success":false,"error":"ended","code":"exit",`+
			`"details":{"exit_code":3,"log_tail":"oops"}}`)
	})
	_, err := open(t, faas.Config{Endpoint: url}).Invoke(t.Context(), 0, nil)
	var failed *faas.FunctionError
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&faas.FunctionError{Type: "exit", Message: "ended", ExitCode: 3, LogTail: "oops"},
		failed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// rawServer passes every connection to serve, which closes it.
func rawServer(t *testing.T, serve func(net.Conn, *bufio.Reader)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				serve(conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		group.Wait()
	})
	return "http://" + l.Addr().String()
}

// readRequest reads one whole request.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

func TestAnInvocationThatReachedThePlatformIsNeverRepeated(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"result\":[]}"
	for name, last := range map[string]string{
		"closed without an answer":  "",
		"cut in the status line":    "HTTP/1.1 20",
		"cut in the answer's body":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"res",
		"an answer that is no HTTP": "hello\r\n\r\n",
	} {
		// The first answers leave a connection for reuse, which is where HTTP clients repeat requests.
		for _, before := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s after %d", name, before), func(t *testing.T) {
				var got atomic.Int32
				url := rawServer(t, func(conn net.Conn, r *bufio.Reader) {
					for readRequest(r) {
						if int(got.Add(1)) <= before {
							_, _ = io.WriteString(conn, ok)
							continue
						}
						_, _ = io.WriteString(conn, last)
						return
					}
				})
				e := open(t, faas.Config{Endpoint: url})
				for range before {
					if _, err := e.Invoke(t.Context(), 0, []byte("x")); err != nil {
						t.Fatal(err)
					}
				}
				_, err := e.Invoke(t.Context(), 0, []byte("x"))
				var failed *faas.Error
				if !errors.As(err, &failed) || failed.Code != faas.ErrUnavailable || failed.NotRun {
					t.Errorf("got %v", err)
				}
				if n := int(got.Load()) - before; n != 1 {
					t.Errorf("the platform got the request %d times", n)
				}
			})
		}
	}
}

func TestAnInvocationThatReachedNobodyDidNotRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	_, err = open(t, faas.Config{Endpoint: url}).Invoke(t.Context(), 0, nil)
	var failed *faas.Error
	if !errors.As(err, &failed) || failed.Code != faas.ErrUnavailable || !failed.NotRun {
		t.Errorf("got %v", err)
	}
}

func TestAConnectionThatWasClosedMeanwhileIsNoError(t *testing.T) {
	closed := make(chan struct{}, 1)
	url := rawServer(t, func(conn net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"result\":[]}")
		}
		conn.Close()
		closed <- struct{}{}
	})
	e := open(t, faas.Config{Endpoint: url})
	for i := range 20 { // the client learns of the end of the connection before, while or after it picks it
		if _, err := e.Invoke(t.Context(), 0, nil); err != nil {
			var failed *faas.Error
			if !errors.As(err, &failed) || failed.Code != faas.ErrUnavailable {
				t.Fatalf("call %d: %v", i, err)
			}
			continue // it had picked the connection already, and may not repeat
		}
		<-closed
	}
}

func TestConnectionsAreUsedAgainUnderConcurrency(t *testing.T) {
	p := newFake(t)
	s := httptest.NewUnstartedServer(p)
	var conns atomic.Int32
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	e := open(t, faas.Config{Endpoint: s.URL})
	deploy(t, e, faas.Function{JobID: 0, MemoryMB: 128, TimeoutSecs: 5})
	const workers = 32
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range 20 {
				if _, err := e.Invoke(t.Context(), 0, make([]byte, 1000)); err != nil {
					t.Error(err)
				}
				// errors must keep their connection, too
				if _, err := e.Invoke(t.Context(), 99, nil); faas.CodeOf(err) != faas.ErrNotFound {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	// net/http may dial for a caller that then gets another's connection, so there can be more
	// connections than workers.
	if n := conns.Load(); n > 3*workers {
		t.Errorf("%d connections for %d workers", n, workers)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	for name, chunk := range map[string]string{"white space": strings.Repeat(" ", 64<<10),
		"numbers": strings.Repeat("0,", 32<<10)} {
		t.Run(name, func(t *testing.T) {
			url := server(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, `{"result":[`)
				for r.Context().Err() == nil {
					if _, err := io.WriteString(w, chunk); err != nil {
						return
					}
				}
			})
			e := open(t, faas.Config{Endpoint: url})
			if _, err := e.Invoke(t.Context(), 0, nil); faas.CodeOf(err) != faas.ErrTooLarge {
				t.Errorf("Invoke: %v", err)
			}
			if _, err := e.Observe(t.Context(), "svc-job0"); faas.CodeOf(err) != faas.ErrTooLarge {
				t.Errorf("Observe: %v", err)
			}
		})
	}
}

func TestTheDeadlineEndsASlowAnswer(t *testing.T) {
	for name, head := range map[string]string{"before it begins": "", "in the middle": `{"result":[`} {
		t.Run(name, func(t *testing.T) {
			url := server(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // or the server does not see the client leave
				_, _ = io.WriteString(w, head)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
			e := open(t, faas.Config{Endpoint: url})
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := e.Invoke(ctx, 0, nil)
			if faas.CodeOf(err) != faas.ErrTimeout || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPayloadLimitsCountBytesOfThePayload(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	deploy(t, e, faas.Function{JobID: 0, MemoryMB: 128, TimeoutSecs: 30})
	p.requests()
	largest := make([]byte, 5<<20)
	for i := range largest {
		largest[i] = 10 // two digits: its JSON is three times as large
	}
	r, err := e.Invoke(t.Context(), 0, largest)
	if err != nil || len(r.Output) != len(largest) {
		t.Fatalf("at the limit: %v", err)
	}
	p.requests()
	_, err = e.Invoke(t.Context(), 0, append(largest, 0))
	if faas.CodeOf(err) != faas.ErrTooLarge || len(p.requests()) != 0 {
		t.Errorf("above the limit: %v", err)
	}
}
