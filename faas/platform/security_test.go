//go:build unix

package platform

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// files returns what is below the platform's directory, except for its lock and the directories
// that it starts with.
func (s *server) files() (list []string) {
	s.t.Helper()
	err := filepath.WalkDir(s.p.Dir(), func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(s.p.Dir(), path)
		if depth := strings.Count(rel, "/"); err == nil && rel != "." && rel != "lock" && (depth > 0 || !d.IsDir()) {
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// leavesNothing makes a platform in a directory of its own, among files of its owner. The returned
// function checks that what happened since left no file and changed none.
func leavesNothing(t testing.TB, opts ...Option) (*server, func(name string)) {
	t.Helper()
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "evil"), []byte("the owner's"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, append(opts, WithDir(filepath.Join(outside, "platform")))...)
	return s, func(name string) {
		t.Helper()
		if left := s.files(); len(left) > 0 {
			t.Errorf("%s: left on disk: %v", name, left)
		}
		entries, err := os.ReadDir(outside)
		text, rerr := os.ReadFile(filepath.Join(outside, "evil"))
		if err != nil || rerr != nil || len(entries) != 2 || string(text) != "the owner's" {
			t.Errorf("%s: beside the platform's directory: %v %q %v %v", name, entries, text, err, rerr)
		}
		if a := s.do(http.MethodGet, "/api/functions", nil); len(a.body["functions"].([]any)) != 0 {
			t.Errorf("%s: deployed: %v", name, a.body)
		}
	}
}

func TestHostileZipsAreRefusedAndLeaveNothing(t *testing.T) {
	s, check := leavesNothing(t, WithLimits(Limits{MaxFiles: 4}))
	for _, z := range hostileZips(t) {
		a := s.put("f", z.zip)
		text, _ := a.body["error"].(string)
		want := codes[z.code]
		if a.status != want.status || a.body["code"] != want.name || text == "" {
			t.Errorf("%s: %d %v, want %d %s", z.name, a.status, a.body, want.status, want.name)
		}
		check(z.name)
	}
}

// Faults found only while unpacking leave nothing behind, and neither do packages that cannot be
// started.
func TestPackagesThatFailLaterLeaveNothing(t *testing.T) {
	s, check := leavesNothing(t)
	lies := makeZip(t, file{"a", 0o644, strings.Repeat("a", 1000)}, file{"bootstrap", 0o755, "#!/bin/sh\n"})
	lies[bytes.Index(lies, []byte("PK\x01\x02"))+16]++ // the sum of the first file
	for name, pkg := range map[string][]byte{
		"another sum": lies,
		"no program":  makeZip(t, file{"bootstrap", 0o755, "neither a script nor a program"}),
		"for another machine": makeZip(t, file{"bootstrap", 0o755,
			"\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x15\x00" +
				strings.Repeat("\x00", 100)}),
		"no interpreter named": makeZip(t, file{"bootstrap", 0o755, "#!\n"}),
	} {
		if a := s.put("f", pkg); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %v", name, a.status, a.body)
		}
		check(name)
	}
	if a := s.put("f", jobZip(), "X-Blueprint-Config",
		configHeader(map[string]any{"env_vars": map[string]string{
			"SILENT": "yes"}})); a.status != http.StatusInternalServerError {
		t.Errorf("a program that ends at once: %d %v", a.status, a.body)
	}
	check("a program that ends at once")
}

func TestHostileIDsAndHeadersAreRefusedAndLeaveNothing(t *testing.T) {
	s, check := leavesNothing(t)
	pkg := scriptZip(t, "true")
	for _, id := range []string{
		"..", ".", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc", "..%2f..%2fetc%2fpasswd", "a%2f..%2fb", "%2fetc", "a%5cb", "..%5cevil",
		"a%00b", "a%0d%0aX-Evil:%20y", "a%1b%5b2J", "a%7f",
		"a%20b", "%20", "%e7%8c%ab", "%ff", "%c0%ae%c0%ae", "a%252e", "-a", ".a", "_a", "a:b", "a~",
		strings.Repeat("a", maxID+1), strings.Repeat("a", 4000),
	} {
		for _, call := range [][2]string{{http.MethodPut, ""}, {http.MethodGet, ""}, {http.MethodDelete, ""},
			{http.MethodPost, "/invoke"}, {http.MethodPost, "/restore"}, {http.MethodGet, "/health"}} {
			if a := s.do(call[0], "/api/functions/"+id+call[1], pkg, "Content-Type",
				"application/zip"); a.status != http.StatusBadRequest && a.status != http.StatusNotFound {
				t.Errorf("%s of %s: %d %v", call[0]+call[1], id, a.status, a.body)
			}
		}
		check(id)
	}
	secret := "hunter2"
	for name, header := range map[string][]string{
		"service with a control character": {"X-Blueprint-Service", "a%0ab"},
		"service with a NUL":               {"X-Blueprint-Service", "a%00b"},
		"service that is no encoding":      {"X-Blueprint-Service", "%zz"},
		"long service":                     {"X-Blueprint-Service", strings.Repeat("a", 513)},
		"fingerprint with a path":          {"X-Blueprint-Fingerprint", "../../etc"},
		"long fingerprint":                 {"X-Blueprint-Fingerprint", strings.Repeat("a", 129)},
		"revision of another":              {"X-Blueprint-If-Revision", "../../etc"},
		"if-exists":                        {"X-Blueprint-If-Exists", "\x1b[2J"},
		"config that is a path":            {"X-Blueprint-Config", "../../etc/passwd"},
		"config of a size":                 {"X-Blueprint-Config", strings.Repeat("A", maxConfigHeader+1)},
		"variable that is a path": {"X-Blueprint-Config",
			configHeader(map[string]any{"env_vars": map[string]string{"../PATH": secret}})},
		"variable with a NUL": {"X-Blueprint-Config",
			configHeader(map[string]any{"env_vars": map[string]string{"A": secret + "\x00LD_PRELOAD=/evil.so"}})},
		"variable with an equals sign": {"X-Blueprint-Config",
			configHeader(map[string]any{"env_vars": map[string]string{"A=B": secret}})},
		"variable with a line break": {"X-Blueprint-Config",
			configHeader(map[string]any{"env_vars": map[string]string{"A\nB": secret}})},
		"large variable": {"X-Blueprint-Config",
			configHeader(map[string]any{"env_vars": map[string]string{"A": strings.Repeat(secret, maxVariable/len(secret)+1)}})},
		"memory beyond all": {"X-Blueprint-Config", configHeader(map[string]any{"memory_mb": 1 << 40})},
		"content type":      {"Content-Type", "application/zip\x7f"},
	} {
		a, answered := s.request(http.MethodPut, "/api/functions/f", pkg, header...)
		if !answered { // the client refuses to send it: then nobody can by this way
			a = s.raw("PUT /api/functions/f HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s", header[0],
				header[1], len(pkg), pkg)
		}
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: %d %v", name, a.status, a.body)
		}
		if text := fmt.Sprint(a.body); strings.Contains(text, secret) {
			t.Errorf("%s: the answer has the variable's value: %.300s", name, text)
		}
		check(name)
	}
}

// raw sends bytes over a connection of their own. The answer may come from the HTTP server.
func (s *server) raw(format string, args ...any) (a answer) {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, format, args...); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	return a
}

func TestOversizedRequestsAreRefusedAndLeaveNothing(t *testing.T) {
	s, check := leavesNothing(t, WithLimits(Limits{MaxPackageMB: 1, MaxPayloadMB: 1}))
	chunked := func(method, path string, size int64) answer {
		t.Helper()
		req, err := http.NewRequest(method, s.url+path, io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return answer{status: resp.StatusCode}
	}
	if a := s.put("f", make([]byte, 1<<20+1)); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %v", a.status, a.body)
	}
	check("announced zip")
	if a := chunked(http.MethodPut, "/api/functions/f", 1<<20+1); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("zip in chunks: %d", a.status)
	}
	check("zip in chunks")
	if a := s.raw("PUT /api/functions/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000000000000000\r\nExpect: " +
		"100-continue\r\n\r\n"); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a zip that says it has exabytes: %d", a.status)
	}
	if a := s.raw("GET /api/functions HTTP/1.1\r\nHost: localhost\r\nX-Large: %s\r\n\r\n",
		strings.Repeat("x", 2<<20)); a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large header: %d", a.status)
	}
	s.mustPut("f", scriptZip(t, doubler))
	if a := s.do(http.MethodPost, "/api/functions/f/invoke",
		make([]byte, 6<<20)); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %v", a.status, a.body)
	}
	if a := chunked(http.MethodPost, "/api/functions/f/invoke", 6<<20); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("call in chunks: %d", a.status)
	}
	if a := s.do(http.MethodPost, "/api/functions/f/restore",
		make([]byte, maxRestoreBody+1)); a.status != http.StatusBadRequest {
		t.Errorf("restore: %d %v", a.status, a.body)
	}
	if a := s.do(http.MethodPost, "/api/functions/f/invoke",
		[]byte(strings.Repeat("[", 1<<20))); a.status != http.StatusBadRequest {
		t.Errorf("deep JSON: %d %v", a.status, a.body)
	}
	env := map[string]string{}
	for i := range 3 {
		env[fmt.Sprint("A", i)] = strings.Repeat("x", maxVariable-10)
	}
	l := limits(t)
	if err := (&config{MemoryMB: 128, TimeoutSecs: 1, Env: env}).check(&l); err == nil ||
		!strings.Contains(err.Error(), "together") {
		t.Errorf("a large environment: %v", err)
	}
	s.do(http.MethodDelete, "/api/functions/f", nil)
	check("in the end")
	if used := s.p.buffered.Used(); used != 0 {
		t.Errorf("%d bytes of the memory for requests are not given back", used)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// A deliberately slow client loses its connection, whatever it asks for, even if the server has no
// time limits.
func TestSlowClientsLoseTheirConnection(t *testing.T) {
	quick := WithLimits(Limits{RequestTimeout: 50 * time.Millisecond, UploadTimeout: 50 * time.Millisecond,
		ReadHeaderTimeout: 50 * time.Millisecond})
	for name, token := range map[string]string{"without a token": "", "with a token that the client lacks": "secret"} {
		s, check := leavesNothing(t, quick, WithToken(token))
		if token == "" {
			s.mustPut("f", scriptZip(t, doubler))
		}
		for _, request := range []string{"GET /api/functions", "GET /metrics", "GET /api/functions/f",
			"GET /api/functions/f/health", "DELETE /api/functions/none", "PUT /api/functions/f",
			"PUT /api/functions/g", "POST /api/functions/f/invoke", "POST /api/functions/f/restore",
			"POST /api/functions/f/warm", "GET /nothing", "PATCH /api/functions/f"} {
			s.closes(name+": "+request, request+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: "+
				"application/zip\r\nContent-Length: 300000\r\n\r\n")
			s.closes(name+": "+request+" in chunks", request+
				" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		}
		if token == "" {
			s.do(http.MethodDelete, "/api/functions/f", nil)
			check(name)
		}
	}
	p, err := New(quick)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := p.Server()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	s := &server{t: t, p: p, url: "http://" + l.Addr().String()}
	s.closes("no header", "")
	s.closes("half a header", "GET /api/functions HTTP/1.1\r\nHost: loc")
	s.closes("a header that does not end", "GET /api/functions HTTP/1.1\r\nHost: localhost\r\n")
	s.closes("a body", "PUT /api/functions/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n")
	if srv.WriteTimeout == 0 || srv.IdleTimeout == 0 || srv.MaxHeaderBytes == 0 {
		t.Errorf("the server has no limits: %+v", srv)
	}
	_ = srv.Close()
	<-served
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// closes checks that the platform closes a connection that sends text and then nothing.
func (s *server) closes(name, text string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(aWhile))
	if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
		s.t.Errorf("%s: the connection is kept", name)
	}
}

// The platform does not keep a large answer for a client that does not take it.
func TestAnswersThatNobodyTakesAreNotKept(t *testing.T) {
	p, err := New(WithLimits(Limits{RequestTimeout: time.Second}))
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(p)
	ts.Listener = narrowListener{ts.Listener}
	ts.Start()
	t.Cleanup(func() {
		ts.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &server{t, p, ts.URL, ts.Client()}
	s.putJobs("f", nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	body := faas.AppendRequest(nil, jobEcho, make([]byte, 200<<10))
	if _, err := fmt.Fprintf(conn, "POST /api/functions/f/invoke HTTP/1.1\r\nHost: localhost\r\nContent-Length: "+
		"%d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) {
		f, err := s.p.lookup("test", "f")
		if err != nil {
			t.Fatal(err)
		}
		if f.counts.total.Load() == 1 && s.p.buffered.Used() == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are kept", s.p.buffered.Used())
		}
	}
}

// narrowListener makes connections with small buffers.
type narrowListener struct{ net.Listener }

func (l narrowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(4 << 10)
	}
	return conn, err
}

// The comparison must reveal neither how much of a token is right nor how long it is. Times cannot
// be tested well; what is compared, and with what, can.
func TestTokensAreComparedByHashInConstantTime(t *testing.T) {
	for _, token := range []string{"x", "correct horse", strings.Repeat("long", 1000)} {
		h := hashToken(token)
		if len(h.sum) != sha256.Size || h.sum != sha256.Sum256([]byte(token)) {
			t.Errorf("%.20q is not kept as its hash", token)
		}
		for _, wrong := range []string{"", token[:len(token)-1], token + "x", strings.ToUpper(token), "\x00" + token} {
			if h.matches(wrong) {
				t.Errorf("%.20q matches %.20q", wrong, token)
			}
		}
		if !h.matches(token) {
			t.Errorf("%.20q does not match itself", token)
		}
	}
	if none := hashToken(""); none.set || none.matches("") {
		t.Error("no token matches the empty one")
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), "auth.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constant := false
	ast.Inspect(parsed, func(n ast.Node) bool {
		f, ok := n.(*ast.FuncDecl)
		if !ok || f.Name.Name != "matches" {
			return true
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "ConstantTimeCompare" {
					constant = true
				}
			case *ast.BinaryExpr:
				for _, side := range []ast.Expr{n.X, n.Y} {
					if id, ok := side.(*ast.Ident); ok && (id.Name == "token" || id.Name == "sum") &&
						(n.Op == token.EQL || n.Op == token.NEQ) {
						t.Errorf("matches compares %s with %v", id.Name, n.Op)
					}
				}
			}
			return true
		})
		return false
	})
	if !constant {
		t.Error("matches does not use ConstantTimeCompare")
	}
}

// Other users of the machine can read neither the functions' configuration nor their output.
// (Functions run as one user; this does not separate them.)
func TestTheDirectoryIsForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "platform")
	s := newServer(t, WithDir(dir))
	s.putJobs("f", nil)
	s.mustInvoke("f", jobEcho, "x")
	for _, pattern := range []string{"", "functions", "packages", "uploads", "work", "work/*", "functions/*.json",
		"lock"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(paths) == 0 {
			t.Errorf("%s: %v %v", pattern, paths, err)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v %v", path, info.Mode(), err)
			}
		}
	}
}

// Functions get nothing that belongs to another function, neither variables nor files, and nothing
// of the program that embeds the platform.
func TestFunctionsGetNothingOfEachOther(t *testing.T) {
	t.Setenv("HOST_SECRET", "x")
	s := newServer(t, WithToken("the token"))
	look := scriptZip(t, `{ env; pwd; ls -A "$HOME"; ls /proc/self/fd; } >&2; echo '{"result":[1]}'`)
	auth := []string{"Authorization", "Bearer the token"}
	deploy := func(id, secret string) {
		config := configHeader(map[string]any{"memory_mb": 128, "timeout_secs": 120,
			"env_vars": map[string]string{"SECRET": secret}})
		s.mustPut(id, look, append([]string{"X-Blueprint-Config", config}, auth...)...)
	}
	deploy("a", "of a")
	deploy("b", "of b")
	home := map[string]string{}
	for _, id := range []string{"a", "b"} {
		if _, err := s.p.Invoke(t.Context(), id, 0, nil); err != nil {
			t.Fatal(err)
		}
		lines, err := logLines(s.p, id)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		descriptors := 0
		for _, line := range lines {
			text.WriteString(line.Text + "\n")
			if value, ok := strings.CutPrefix(line.Text, "HOME="); ok {
				home[id] = value
			}
			if len(line.Text) == 1 && line.Text >= "0" && line.Text <= "9" {
				descriptors++
			}
		}
		other := map[string]string{"a": "of b", "b": "of a"}[id]
		if got := text.String(); !strings.Contains(got, "SECRET=of "+id) || strings.Contains(got, other) ||
			strings.Contains(got, "HOST_SECRET") || strings.Contains(got, "the token") {
			t.Errorf("%s sees\n%s", id, got)
		}
		if descriptors > 4 { // the three standard ones and the directory that ls lists
			t.Errorf("%s has %d descriptors:\n%s", id, descriptors, text.String())
		}
	}
	if home["a"] == "" || home["a"] == home["b"] {
		t.Errorf("the functions have the directories %v", home)
	}
}
