package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	_ "github.com/tangle-network/blueprint-serverless/faas/all"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// playProgram is the environment variable that makes this executable the program under test.
const playProgram = "BLUEPRINT_TEST_PLAY_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(playProgram) != "" {
		Main()
	}
	goleak.VerifyTestMain(m)
}

// desk is an operator's workplace: a directory with a policy, ledgers and a blueprint's binary, and
// the embedded platform.
type desk struct {
	t        testing.TB
	dir      string
	binary   string
	endpoint string
	// before, if set, sees each request before the platform does. If it returns false, the request
	// ends there.
	before atomic.Pointer[func(r *http.Request) bool]
}

// script is a small blueprint, because packing a real binary is slow under the race detector. Its
// jobs answer their arguments, and job 1 fails if they are "no".
const script = `#!/bin/sh
read -r request
case "$request" in
*'"job_id":1,"args":[110,111]'*) echo '{"success":false,"error":"job 1 does not like it"}' ;;
*) echo "$request" | sed 's/.*"args":\(\[[^]]*\]\).*/{"result":\1}/' ;;
esac
`

// newDesk starts the platform, and has no policy yet.
func newDesk(t testing.TB) *desk {
	t.Helper()
	p, err := platform.New()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, dir: t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before := d.before.Load(); before == nil || (*before)(r) {
			p.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		server.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	d.endpoint = server.URL
	d.binary = filepath.Join(d.dir, "target", "release", "blueprint")
	if err := os.MkdirAll(filepath.Dir(d.binary), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// ready is a desk whose policy leads to the platform and whose jobs are profiled.
func ready(t testing.TB) *desk {
	t.Helper()
	d := newDesk(t)
	d.ok("policy", "--serverless", "true", "--faas-provider", "custom", "--faas-custom-endpoint", d.endpoint,
		"--serverless-fallback", "false")
	d.ok("profile", d.binary, "--input", "0=text:hi", "--input", "1=hex:0500000000000000", "--runs", "1", "--warmups",
		"0", "-q")
	return d
}

// stranger is another binary, of which there are no profiles.
func (d *desk) stranger() string {
	d.t.Helper()
	path := filepath.Join(d.dir, "stranger", "bin", "stranger")
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(script), 0o755)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return path
}

// deployed is a desk with a deployed service 123.
func deployedDesk(t testing.TB) *desk {
	t.Helper()
	d := ready(t)
	d.ok("deploy", "--service-id", "123", "--binary", d.binary)
	return d
}

// args adds where this desk keeps its files.
func (d *desk) args(args []string) []string {
	return append(args, "--policy", filepath.Join(d.dir, "deployment-policy.json"), "--state-dir",
		filepath.Join(d.dir, "state"))
}

type result struct {
	code     int
	out, err string
}

// do runs the program.
func (d *desk) do(ctx context.Context, stdin string, args ...string) result {
	d.t.Helper()
	var out, errs lockedBuffer
	code := run(ctx, d.args(args), streams{in: strings.NewReader(stdin), out: &out, err: &errs})
	return result{code, out.String(), errs.String()}
}

// ok runs the program, which has to succeed, and returns what it answered.
func (d *desk) ok(args ...string) string {
	d.t.Helper()
	r := d.do(d.t.Context(), "", args...)
	if r.code != exitOK {
		d.t.Fatalf("tangle-cloud %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// json runs the program with --json and reads its answer, which has to be one document.
func (d *desk) json(to any, args ...string) {
	d.t.Helper()
	dec := json.NewDecoder(strings.NewReader(d.ok(append(args, "--json")...)))
	if err := dec.Decode(to); err != nil || dec.More() {
		d.t.Fatalf("tangle-cloud %s --json: %v, more: %v", strings.Join(args, " "), err, dec.More())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
