//go:build unix

package platform

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// doubler answers every byte twice, with nothing but a result, as older binaries do.
const doubler = `sed 's/.*"args":\[\([^]]*\)\].*/\1/' | sed 's/\([0-9][0-9]*\)/\1,\1/g; s/.*/{"result":[&]}/'`

func TestLifeOfAFunction(t *testing.T) {
	for _, kind := range []string{"script", "job binary"} {
		t.Run(kind, func(t *testing.T) {
			s := newServer(t)
			var put answer
			if kind == "script" {
				put = s.mustPut("svc-job0", scriptZip(t, doubler), "X-Blueprint-Config",
					configHeader(map[string]any{"memory_mb": 256, "timeout_secs": 120}))
			} else {
				put = s.putJobs("svc-job0", nil)
				if ms, _ := put.body["cold_start_ms"].(float64); ms <= 0 {
					t.Errorf("cold_start_ms %v", put.body["cold_start_ms"])
				}
			}
			for name, want := range map[string]any{
				"function_id": "svc-job0", "endpoint": s.url + "/api/functions/svc-job0/invoke", "status": "deployed",
				"memory_mb": 256.0, "timeout_secs": 120.0,
			} {
				if put.body[name] != want {
					t.Errorf("PUT answered %s = %v, want %v", name, put.body[name], want)
				}
			}

			get := s.do(http.MethodGet, "/api/functions/svc-job0", nil)
			if get.status != 200 || get.body["function_id"] != "svc-job0" || get.body["status"] != "deployed" {
				t.Errorf("GET: %d %v", get.status, get.body)
			}
			if _, err := time.Parse(time.RFC3339, get.body["deployed_at"].(string)); err != nil {
				t.Error(err)
			}
			if size, _ := get.body["binary_size_bytes"].(float64); size <= 0 {
				t.Errorf("binary_size_bytes %v", get.body["binary_size_bytes"])
			}
			if diff := cmp.Diff([]any{"replace", "fingerprint", "list", "restore"}, get.body["features"]); diff != "" {
				t.Error(diff)
			}

			health := s.do(http.MethodGet, "/api/functions/svc-job0/health", nil)
			if diff := cmp.Diff(map[string]any{"function_id": "svc-job0", "status": "healthy", "last_invocation": nil,
				"total_invocations": 0.0}, health.body); diff != "" {
				t.Error(diff)
			}
			want := "ab"
			if kind == "script" {
				want = "aabb"
			}
			a := s.invoke("svc-job0", 0, "ab")
			if a.status != 200 || a.result() != want || a.body["success"] != true || a.body["job_id"] != 0.0 {
				t.Errorf("invoke: %d %v", a.status, a.body)
			}
			for _, name := range []string{"execution_ms", "memory_used_mb"} {
				if _, ok := a.body[name].(float64); !ok {
					t.Errorf("invoke answered %s = %v", name, a.body[name])
				}
			}
			health = s.do(http.MethodGet, "/api/functions/svc-job0/health", nil)
			if health.status != 200 || health.body["total_invocations"] != 1.0 || health.body["last_invocation"] == nil {
				t.Errorf("health: %d %v", health.status, health.body)
			}

			warm := s.do(http.MethodPost, "/api/functions/svc-job0/warm?instances=2", nil)
			instances := 2.0
			if kind == "script" {
				instances = 0
			}
			if diff := cmp.Diff(map[string]any{"function_id": "svc-job0", "status": "warm", "instances_warmed": instances},
				warm.body); diff != "" || warm.status != 200 {
				t.Error(warm.status, diff)
			}

			del := s.do(http.MethodDelete, "/api/functions/svc-job0", nil)
			if diff := cmp.Diff(map[string]any{"function_id": "svc-job0", "status": "deleted"}, del.body); diff != "" ||
				del.status != 200 {
				t.Error(del.status, diff)
			}
			for _, call := range [][2]string{{"GET", ""}, {"DELETE", ""}, {"GET", "/health"}, {"POST", "/warm"}} {
				if a := s.do(call[0], "/api/functions/svc-job0"+call[1], nil); a.status != 404 || a.body["code"] != "NOT_FOUND" ||
					a.body["error"] == "" {
					t.Errorf("%v after DELETE: %d %v", call, a.status, a.body)
				}
			}
			if a := s.invoke("svc-job0", 0, ""); a.status != 404 {
				t.Errorf("invoke after DELETE: %d %v", a.status, a.body)
			}
		})
	}
}

func TestRefusedRequests(t *testing.T) {
	s := newServer(t, WithLimits(Limits{MaxPayloadMB: 1, MaxPackageMB: 1}))
	s.mustPut("f", scriptZip(t, doubler))
	long := strings.Repeat("x", 200)
	zip := scriptZip(t, "true")
	config := func(text string) []string { return []string{"X-Blueprint-Config", text} }
	tests := []struct {
		name, method, path string
		body               []byte
		header             []string
		status             int
		code               string
	}{
		{"other path", "GET", "/", nil, nil, 404, "NOT_FOUND"},
		{"path beside", "GET", "/api/functionsx", nil, nil, 404, "NOT_FOUND"},
		{"unknown verb", "POST", "/api/functions/f/run", nil, nil, 404, "NOT_FOUND"},
		{"deeper path", "POST", "/api/functions/f/invoke/x", nil, nil, 404, "NOT_FOUND"},
		{"id with traversal", "GET", "/api/functions/..%2f..%2fetc", nil, nil, 400, "INVALID_ARGUMENT"},
		{"id of dots", "GET", "/api/functions/%2e%2e", nil, nil, 400, "INVALID_ARGUMENT"},
		{"id with control character", "GET", "/api/functions/a%00b", nil, nil, 400, "INVALID_ARGUMENT"},
		{"long id", "GET", "/api/functions/" + long, nil, nil, 400, "INVALID_ARGUMENT"},
		{"method", "PATCH", "/api/functions/f", nil, nil, 405, "METHOD_NOT_ALLOWED"},
		{"method of invoke", "GET", "/api/functions/f/invoke", nil, nil, 405, "METHOD_NOT_ALLOWED"},
		{"method of health", "POST", "/api/functions/f/health", nil, nil, 405, "METHOD_NOT_ALLOWED"},
		{"method of list", "DELETE", "/api/functions", nil, nil, 405, "METHOD_NOT_ALLOWED"},
		{"exists", "PUT", "/api/functions/f", zip, nil, 409, "ALREADY_EXISTS"},
		{"content type", "PUT", "/api/functions/g", zip, []string{"Content-Type", "text/plain"}, 415, "UNSUPPORTED"},
		{"no zip", "PUT", "/api/functions/g", []byte("hello"), nil, 400, "INVALID_ARGUMENT"},
		{"empty body", "PUT", "/api/functions/g", nil, nil, 400, "INVALID_ARGUMENT"},
		{"large zip", "PUT", "/api/functions/g", make([]byte, 1<<20+1), nil, 413, "TOO_LARGE"},
		{"config not base64", "PUT", "/api/functions/g", zip, config("{}"), 400, "INVALID_ARGUMENT"},
		{"small memory", "PUT", "/api/functions/g", zip, config(configHeader(map[string]any{"memory_mb": 64})), 400,
			"INVALID_ARGUMENT"},
		{"long timeout", "PUT", "/api/functions/g", zip, config(configHeader(map[string]any{"timeout_secs": 901})), 400,
			"INVALID_ARGUMENT"},
		{"if-exists", "PUT", "/api/functions/g", zip, []string{"X-Blueprint-If-Exists", "perhaps"}, 400, "INVALID_ARGUMENT"},
		{"fingerprint", "PUT", "/api/functions/g", zip, []string{"X-Blueprint-Fingerprint", "a b"}, 400, "INVALID_ARGUMENT"},
		{"body no JSON", "POST", "/api/functions/f/invoke", []byte("hello"), nil, 400, "INVALID_ARGUMENT"},
		{"body without args", "POST", "/api/functions/f/invoke", []byte(`{"job_id":1}`), nil, 400, "INVALID_ARGUMENT"},
		{"byte out of range", "POST", "/api/functions/f/invoke", []byte(`{"job_id":1,"args":[256]}`), nil, 400,
			"INVALID_ARGUMENT"},
		{"large body", "POST", "/api/functions/f/invoke", make([]byte, 5<<20), nil, 413, "TOO_LARGE"},
		{"large args", "POST", "/api/functions/f/invoke", requestJSON(0, strings.Repeat("\x01", 1<<20+1)), nil, 413,
			"TOO_LARGE"},
		{"instances", "POST", "/api/functions/f/warm?instances=x", nil, nil, 400, "INVALID_ARGUMENT"},
		{"foreign host name", "GET", "/api/functions/f", nil, []string{"Host", "evil.example"}, 403, "FORBIDDEN"},
		{"no interpreter", "PUT", "/api/functions/g", makeZip(t, file{"bootstrap", 0o755, "#!/opt/no/such/shell -e\ntrue"}),
			nil, 400, "INVALID_ARGUMENT"},
		{"no program for env", "PUT", "/api/functions/g",
			makeZip(t, file{"bootstrap", 0o755, "#!/usr/bin/env no-such-language\ntrue"}), nil, 400, "INVALID_ARGUMENT"},
		{"carriage return", "PUT", "/api/functions/g", makeZip(t, file{"bootstrap", 0o755, "#!/bin/sh\r\ntrue"}), nil, 400,
			"INVALID_ARGUMENT"},
		{"text without interpreter", "PUT", "/api/functions/g", makeZip(t, file{"bootstrap", 0o755, "hello"}), nil, 400,
			"INVALID_ARGUMENT"},
		{"long name in a zip", "PUT", "/api/functions/g",
			makeZip(t, file{"bootstrap", 0o755, "#!/bin/sh"}, file{"dir/" + strings.Repeat("n", 256), 0o644, "x"}), nil, 400,
			"INVALID_ARGUMENT"},
		{"web page", "POST", "/api/functions/f/invoke", requestJSON(0, ""), []string{"Origin", "http://evil.example"}, 403,
			"FORBIDDEN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := tt.header
			if tt.method == "PUT" && tt.name != "content type" {
				header = append([]string{"Content-Type", "application/zip"}, header...)
			}
			a := s.do(tt.method, tt.path, tt.body, header...)
			if a.status != tt.status || a.body["code"] != tt.code {
				t.Errorf("got %d %v, want %d %s", a.status, a.body, tt.status, tt.code)
			}
			if text, _ := a.body["error"].(string); text == "" || strings.Contains(text, s.p.Dir()) {
				t.Errorf("error text %q", text)
			}
			if tt.status == 405 && a.header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
			if tt.status == 409 && a.body["function_id"] != "f" {
				t.Errorf("function_id %v", a.body["function_id"])
			}
		})
	}
	if a := s.do("GET", "/api/functions", nil); len(a.body["functions"].([]any)) != 1 {
		t.Errorf("a refused PUT left something: %v", a.body)
	}
}

// A function that fails in any way gives a 500 in the protocol's shape, and the next call is
// served.
func TestFailedInvocations(t *testing.T) {
	s := newServer(t)
	s.putJobs("f", nil)
	s.putJobs("short", map[string]any{"timeout_secs": 1}) // for what hangs; the others take what time they need
	tests := []struct {
		job  int
		code string
		typ  any
		exit any
		text string
	}{
		{jobExit, "FUNCTION_FAILED", "exit", 3.0, "cannot go on"},
		{jobHang, "TIMEOUT", nil, nil, "timeout of 1s"},
		{jobEat, "FUNCTION_FAILED", "out of memory", nil, "256 MiB"},
		{jobFail, "FUNCTION_FAILED", nil, nil, "no such cat"},
		{jobKill, "FUNCTION_FAILED", "killed", nil, "signal"},
		{jobPanic, "FUNCTION_FAILED", "panic", nil, "oh no"},
		{jobCrash, "FUNCTION_FAILED", "panic", 2.0, "function failed (panic): panic: no way on (exit code 2)"},
	}
	for _, tt := range tests {
		id := "f"
		if tt.job == jobHang {
			id = "short"
		}
		a := s.invoke(id, tt.job, "x")
		text, _ := a.body["error"].(string)
		if a.status != 500 || a.body["success"] != false || a.body["job_id"] != float64(tt.job) ||
			a.body["code"] != tt.code || !strings.Contains(text, tt.text) {
			t.Errorf("job %d: %d %v", tt.job, a.status, a.body)
		}
		if list, ok := a.body["result"].([]any); !ok || len(list) != 0 {
			t.Errorf("job %d: result %v", tt.job, a.body["result"])
		}
		details, _ := a.body["details"].(map[string]any)
		if tt.typ != nil && details["type"] != tt.typ || tt.exit != nil && details["exit_code"] != tt.exit {
			t.Errorf("job %d: details %v", tt.job, details)
		}
		if got := s.mustInvoke(id, jobEcho, "next"); got != "next" {
			t.Errorf("after job %d: %q", tt.job, got)
		}
	}
	if a := s.invoke("f", 77, ""); a.status != 404 || a.body["success"] != false {
		t.Errorf("unknown job: %d %v", a.status, a.body)
	}
	if a := s.do("GET", "/api/functions/f/health", nil); a.status != 200 {
		t.Errorf("health after failures and a served call: %v", a.body)
	}
}

func TestScriptsThatFail(t *testing.T) {
	s := newServer(t)
	tests := []struct{ name, script, text string }{
		{"exits 3", "echo broken >&2; exit 3", "exit code 3"},
		{"prints garbage", "echo hello", "not the JSON"},
		{"prints nothing", "cat >/dev/null",
			"function failed (protocol): the process exited with code 0 and answered nothing"},
		{"prints blanks", "echo; echo ' '", "answered nothing"},
		{"prints half", `printf '{"result":[1,2'`,
			"function failed (protocol): the answer on standard output is not the JSON"},
		{"prints an empty object", "echo '{}'", "neither result nor success"},
		{"has lost its result", `echo '{"success":true}'`, "the answer says success and has no result"},
		{"says no", `echo '{"job_id":0,"result":[],"success":false,"error":"no such cat"}'`, "no such cat"},
		{"says no and exits 1", `echo '{"success":false,"error":"no such dog"}'; exit 1`, "no such dog"},
		{"ignores its input", `exec 0<&-; exit 4`, "exit code 4"},
	}
	for _, tt := range tests {
		id := strings.ReplaceAll(tt.name, " ", "-")
		s.mustPut(id, scriptZip(t, tt.script))
		a := s.invoke(id, 0, strings.Repeat("x", 100_000))
		if text, _ := a.body["error"].(string); a.status != 500 || a.body["code"] != "FUNCTION_FAILED" ||
			a.body["success"] != false || !strings.Contains(text, tt.text) {
			t.Errorf("%s: %d %v", tt.name, a.status, a.body)
		}
	}
	for _, empty := range []string{`{"result":[]}`, `{"result":null}`, `{"result": [], "success": true}`} {
		s.mustPut("empty", scriptZip(t, "echo '"+empty+"'"), "X-Blueprint-If-Exists", "replace")
		if got := s.mustInvoke("empty", 0, ""); got != "" {
			t.Errorf("%s: %q", empty, got)
		}
	}
	for range crashLoop - 1 {
		s.invoke("exits-3", 0, "")
	}
	if a := s.do("GET", "/api/functions/exits-3/health", nil); a.status != 503 || a.body["status"] != "unhealthy" ||
		a.body["error"] == nil {
		t.Errorf("health of a crash loop: %d %v", a.status, a.body)
	}
	if a := s.do("GET", "/api/functions/says-no/health", nil); a.status != 200 {
		t.Errorf("health of a job that fails: %d %v", a.status, a.body)
	}
}

func TestScriptsThatStartOthers(t *testing.T) {
	s := newServer(t)
	config := []string{"X-Blueprint-Config", configHeader(map[string]any{"memory_mb": 128, "timeout_secs": 120})}
	s.mustPut("background", scriptZip(t, `sleep 1000 & echo '{"result":[1]}'`), config...)
	s.mustPut("session", scriptZip(t, `setsid sleep 5 & echo '{"result":[2]}'`), config...)
	if got := s.mustInvoke("background", 0, ""); got != "\x01" {
		t.Errorf("%q", got)
	}
	if got := s.mustInvoke("session", 0, ""); got != "\x02" {
		t.Errorf("%q", got)
	}
	if runtime.GOOS != "linux" {
		return
	}
	// The memory of a child counts, too.
	s.mustPut("eater", scriptZip(t, `head -c 1000000000 /dev/zero | tail; echo '{"result":[3]}'`), config...)
	if a := s.invoke("eater", 0, ""); a.status != 500 || a.body["details"].(map[string]any)["type"] != "out of memory" {
		t.Errorf("%d %v", a.status, a.body)
	}
}

func TestQueueAnswers429(t *testing.T) {
	s := newServer(t, WithQueue(1))
	s.putJobs("f", map[string]any{"max_concurrency": 1})
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for range 2 { // they hang until the queue has been seen full
		calls.Go(func() { _, _ = s.p.Invoke(ctx, "f", jobHang, nil) })
	}
	f, _ := s.p.lookup("test", "f")
	for st := f.pool.Stats(); st.Running+st.Waiting < 2; st = f.pool.Stats() {
		time.Sleep(time.Millisecond)
	}
	a := s.invoke("f", jobEcho, "")
	if a.status != 429 || a.header.Get("Retry-After") == "" || a.body["code"] != "THROTTLED" {
		t.Errorf("%d %v", a.status, a.body)
	}
	cancel()
	calls.Wait()
	if got := s.mustInvoke("f", jobEcho, "next"); got != "next" {
		t.Error(got)
	}
}

func TestToken(t *testing.T) {
	s := newServer(t, WithToken("correct horse"))
	for header, want := range map[string]int{"": 401, "Bearer": 401, "Bearer wrong": 401, "Basic correct horse": 401,
		"Bearer correct horse": 404, "bearer correct horse": 404} {
		if a := s.do("GET", "/api/functions/f", nil, "Authorization", header); a.status != want {
			t.Errorf("%q: %d %v", header, a.status, a.body)
		} else if want == 401 && a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%q: no WWW-Authenticate", header)
		}
	}
}

func TestFunctionsSeeOnlyTheirOwnEnvironment(t *testing.T) {
	t.Setenv("HOST_SECRET", "x")
	s := newServer(t)
	s.putJobs("f", nil)
	env := s.mustInvoke("f", jobEnv, "")
	if strings.Contains(env, "HOST_SECRET") || !strings.Contains(env, "COLOUR=green") {
		t.Error(env)
	}
}
