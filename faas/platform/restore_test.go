//go:build unix

package platform

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// putVersion deploys a script that answers n with the fingerprint "vN", and returns its generation.
func (s *server) putVersion(id string, n int, header ...string) generation {
	s.t.Helper()
	a := s.mustPut(id, versionZip(s.t, n), versionHeader(n, header...)...)
	return generation{a.body["package_sha256"].(string), a.body["config_fingerprint"].(string)}
}

func versionZip(t testing.TB, n int) []byte {
	return scriptZip(t, fmt.Sprintf(`cat >/dev/null; echo "{\"result\":[%d,$VALUE]}"`, n))
}

func versionHeader(n int, header ...string) []string {
	config := configHeader(map[string]any{"memory_mb": 256, "timeout_secs": 120,
		"env_vars": map[string]string{"VALUE": strconv.Itoa(10 * n)}})
	return append([]string{"X-Blueprint-Config", config, "X-Blueprint-Fingerprint", fmt.Sprint("v", n),
		"X-Blueprint-If-Exists", "replace"}, header...)
}

func (s *server) restore(id string, g generation, header ...string) answer {
	s.t.Helper()
	body := fmt.Sprintf(`{"package_sha256":%q,"config_fingerprint":%q}`, g.PackageSHA256, g.Fingerprint)
	return s.do(http.MethodPost, "/api/functions/"+id+"/restore", []byte(body), header...)
}

// is checks that version n is live.
func (s *server) is(id string, n int) {
	s.t.Helper()
	if got, want := s.mustInvoke(id, 0, ""), string([]byte{byte(n), byte(10 * n)}); got != want {
		s.t.Errorf("%q answers, want %q", got, want)
	}
}

// keeps waits until the platform has want packages: replaced functions release theirs in their own
// time.
func (s *server) keeps(want int) {
	s.t.Helper()
	for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) {
		entries, err := os.ReadDir(filepath.Join(s.p.Dir(), "packages"))
		if err != nil {
			s.t.Fatal(err)
		}
		if len(entries) == want {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("there are %d packages, want %d", len(entries), want)
		}
	}
}

func TestRestorePutsThePreviousGenerationBack(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, WithDir(dir))
	one := s.putVersion("f", 1)
	two := s.putVersion("f", 2)
	s.putVersion("f", 2) // a PUT that is repeated because its answer was lost
	get := s.do("GET", "/api/functions/f", nil)
	if diff := cmp.Diff(map[string]any{"package_sha256": one.PackageSHA256, "config_fingerprint": "v1"},
		get.body["previous"]); diff != "" {
		t.Error(diff)
	}
	if a := s.restore("f", generation{two.PackageSHA256, "v1"}); a.status != 409 || a.body["code"] != "CONFLICT" {
		t.Errorf("a generation that never was: %d %v", a.status, a.body)
	}
	if a := s.restore("f", two); a.status != 200 {
		t.Errorf("what is live: %d %v", a.status, a.body)
	}
	s.is("f", 2)

	if err := s.p.Close(); err != nil { // and it is still there after a restart
		t.Fatal(err)
	}
	s = newServer(t, WithDir(dir))
	for range 2 {
		if a := s.restore("f", one); a.status != 200 || a.body["package_sha256"] != one.PackageSHA256 ||
			a.body["config_fingerprint"] != "v1" {
			t.Errorf("%d %v", a.status, a.body)
		}
		s.is("f", 1)
	}
	if a := s.restore("f", two); a.status != 200 {
		t.Errorf("forward again: %d %v", a.status, a.body)
	}
	s.is("f", 2)

	s.putVersion("f", 3)
	s.putVersion("f", 4)
	if a := s.restore("f", one); a.status != 409 {
		t.Errorf("an older generation: %d %v", a.status, a.body)
	}
	s.is("f", 4)
	s.do("DELETE", "/api/functions/f", nil)
	if a := s.restore("f", one); a.status != 404 || a.body["code"] != "NOT_FOUND" {
		t.Errorf("after DELETE: %d %v", a.status, a.body)
	}
	s.keeps(0)
}

func TestOnePreviousGenerationIsKept(t *testing.T) {
	s := newServer(t)
	for n := range 5 {
		s.putVersion("f", n)
	}
	s.keeps(2)
}

func TestRefusedRestores(t *testing.T) {
	s := newServer(t)
	one := s.putVersion("f", 1, "X-Blueprint-Service", "svc")
	s.putVersion("f", 2, "X-Blueprint-Service", "svc")
	const path = "/api/functions/f/restore"
	for body, want := range map[string]int{"": 400, "{}": 400, "[]": 400,
		`{"package_sha256":"` + one.PackageSHA256 + `"}`: 400, strings.Repeat(" ", maxRestoreBody+1): 400} {
		if a := s.do("POST", path, []byte(body)); a.status != want || a.body["code"] != "INVALID_ARGUMENT" {
			t.Errorf("%.40q: %d %v", body, a.status, a.body)
		}
	}
	if a := s.do("GET", path, nil); a.status != 405 {
		t.Error(a)
	}
	if a := s.restore("f", one, "X-Blueprint-Service", "other"); a.status != 409 {
		t.Errorf("by another service: %d %v", a.status, a.body)
	}
	if a := s.restore("f", one, "X-Blueprint-Service", "svc"); a.status != 200 {
		t.Errorf("%d %v", a.status, a.body)
	}
	s.is("f", 1)
}

// An upload whose sender has cancelled it or lost the connection must not undo a later restore.
func TestALateUploadDoesNotUndoARestore(t *testing.T) {
	s := newServer(t)
	one := s.putVersion("f", 1)
	send, status := s.slowPUT("f", versionZip(t, 2), versionHeader(2)...)
	if a := s.restore("f", one); a.status != 200 {
		t.Errorf("%d %v", a.status, a.body)
	}
	send()
	if got := <-status; got != 409 {
		t.Errorf("the late PUT: %d", got)
	}
	s.is("f", 1)

	// A complete upload that arrives after the restore names what it was meant to replace.
	revision := s.do("GET", "/api/functions/f", nil).body["revision"].(string)
	s.putVersion("f", 2, "X-Blueprint-If-Revision", revision)
	s.putVersion("f", 2, "X-Blueprint-If-Revision", revision) // sent again
	s.restore("f", one)
	if a := s.put("f", versionZip(t, 2), versionHeader(2, "X-Blueprint-If-Revision", revision)...); a.status != 409 ||
		a.body["code"] != "CONFLICT" {
		t.Errorf("the late PUT: %d %v", a.status, a.body)
	}
	s.is("f", 1)
	s.do("DELETE", "/api/functions/f", nil)
	if a := s.put("f", versionZip(t, 2), versionHeader(2, "X-Blueprint-If-Revision", revision)...); a.status != 409 {
		t.Errorf("the late PUT after DELETE: %d %v", a.status, a.body)
	}
	s.keeps(0)
}

func TestRestoreDropsNoCall(t *testing.T) {
	s := newServer(t)
	one := s.putVersion("script", 1)
	two := s.putVersion("script", 2)
	var jobs []generation
	for n := range 2 {
		a := s.putJobs("jobs", map[string]any{"env_vars": map[string]string{"VALUE": strconv.Itoa(n)}},
			versionHeader(n)[2:]...)
		jobs = append(jobs, generation{a.body["package_sha256"].(string), a.body["config_fingerprint"].(string)})
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, id := range []string{"script", "jobs"} {
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := s.p.Invoke(context.Background(), id, jobEcho, []byte("x")); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	for i := range 4 {
		if a := s.restore("script", []generation{one, two}[i%2]); a.status != 200 {
			t.Errorf("%d %v", a.status, a.body)
		}
		s.is("script", 1+i%2)
		if a := s.restore("jobs", jobs[i%2]); a.status != 200 {
			t.Errorf("%d %v", a.status, a.body)
		}
		if env := s.mustInvoke("jobs", jobEnv, ""); !strings.Contains(env, fmt.Sprintf("VALUE=%d", i%2)) {
			t.Errorf("after the restore of version %d another one answers", i%2)
		}
	}
	close(stop)
	wg.Wait()
}

func TestConcurrentRestores(t *testing.T) {
	s := newServer(t)
	generations := []generation{s.putVersion("f", 1), s.putVersion("f", 2)}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for range 4 {
				switch i % 3 {
				case 0:
					if a := s.put("f", versionZip(t, 1+i%2), versionHeader(1+i%2)...); a.status != 200 && a.status != 409 {
						t.Errorf("PUT: %d %v", a.status, a.body)
					}
				case 1:
					if a := s.restore("f", generations[i%2]); a.status != 200 && a.status != 404 && a.status != 409 {
						t.Errorf("restore: %d %v", a.status, a.body)
					}
				default:
					if a := s.do("DELETE", "/api/functions/f", nil); a.status != 200 && a.status != 404 {
						t.Errorf("DELETE: %d %v", a.status, a.body)
					}
				}
			}
		})
	}
	wg.Wait()
	s.do("DELETE", "/api/functions/f", nil)
	s.keeps(0)
}
