//go:build unix

package platform

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	killRounds = flag.Int("kill.rounds", 8, "how often TestAKilledPlatformHasTheOldFunctionOrTheNew kills one")
	killSeed   = flag.Uint64("kill.seed", 1, "what it draws its changes and its moments from")
)

// beServer serves a platform over HTTP until it is killed.
func beServer() {
	p, err := New(WithDir(os.Getenv("TEST_SERVER")))
	if err == nil {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
			fmt.Println("http://" + l.Addr().String())
			err = p.Server().Serve(l)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// wholeZip returns a package that answers its version only if all of its files and its
// configuration have that version.
func wholeZip(t testing.TB, version int) []byte {
	files := []file{{"bootstrap", 0o755, `#!/bin/sh
cat >/dev/null
version=$(sort -u data/*)
[ "$version" = "$VERSION" ] || { echo "code $version, configuration $VERSION" >&2; exit 9; }
echo "{\"result\":[$version]}"
`}}
	for i := range 20 {
		files = append(files, file{fmt.Sprintf("data/%d", i), 0o644, strings.Repeat(strconv.Itoa(version)+"\n", 500)})
	}
	return makeZip(t, files...)
}

func wholeHeader(version int, header ...string) []string {
	config := configHeader(map[string]any{"memory_mb": 128, "timeout_secs": 120,
		"env_vars": map[string]string{"VERSION": strconv.Itoa(version)}})
	return append([]string{"X-Blueprint-Config", config, "X-Blueprint-Fingerprint", "v" + strconv.Itoa(version),
		"X-Blueprint-If-Exists", "replace"}, header...)
}

// changed is a function whose platform is killed while it changes.
type changed struct {
	id      string
	version int // of the last PUT
	// allowed are the versions that may exist; 0 means none.
	allowed []int
}

// request sends a change. It returns the answer, and whether there was one.
func (s *server) request(method, path string, body []byte, header ...string) (a answer, answered bool) {
	req, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return a, false
	}
	for ; len(header) > 0; header = header[2:] {
		req.Header.Set(header[0], header[1])
	}
	resp, err := s.c.Do(req)
	if err != nil {
		return a, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, false
	}
	a.status = resp.StatusCode
	if err := json.Unmarshal(text, &a.body); err != nil {
		s.t.Errorf("%s %s: %v in %q", method, path, err, text)
	}
	return a, true
}

// change makes changes of one function until the platform is gone.
func (c *changed) change(s *server, rng *rand.Rand) {
	path := "/api/functions/" + c.id
	for {
		now := c.allowed[0]
		switch {
		case rng.IntN(6) == 0:
			c.allowed = []int{now, 0}
			a, ok := s.request(http.MethodDelete, path, nil)
			if !ok {
				return
			}
			if a.status != http.StatusOK && now != 0 {
				s.t.Errorf("DELETE: %d %v", a.status, a.body)
			}
			c.allowed = []int{0}
		case rng.IntN(5) == 0 && now != 0:
			a, ok := s.request(http.MethodGet, path, nil)
			if !ok {
				return
			}
			previous, _ := a.body["previous"].(map[string]any)
			if previous == nil {
				continue
			}
			version, _ := strconv.Atoi(strings.TrimPrefix(previous["config_fingerprint"].(string), "v"))
			body, _ := json.Marshal(previous)
			c.allowed = []int{now, version}
			if a, ok = s.request(http.MethodPost, path+"/restore", body); !ok {
				return
			}
			if a.status != http.StatusOK {
				s.t.Errorf("restore: %d %v", a.status, a.body)
			}
			c.allowed = []int{version}
		default:
			c.version = c.version%250 + 1 // an answer is one byte
			c.allowed = []int{now, c.version}
			a, ok := s.request(http.MethodPut, path, wholeZip(s.t, c.version), wholeHeader(c.version)...)
			if !ok {
				return
			}
			if a.status != http.StatusOK {
				s.t.Errorf("PUT: %d %v", a.status, a.body)
			}
			c.allowed = []int{c.version}
		}
	}
}

// check examines a function after the platform has come back, and returns its packages.
func (c *changed) check(s *server) (packages []string) {
	get := s.do(http.MethodGet, "/api/functions/"+c.id, nil)
	version := 0
	switch {
	case get.status == http.StatusOK && get.body["status"] == "deployed":
		result := s.mustInvoke(c.id, 0, "")
		version = int(result[0])
		packages = append(packages, get.body["package_sha256"].(string))
		if previous, _ := get.body["previous"].(map[string]any); previous != nil {
			packages = append(packages, previous["package_sha256"].(string))
		}
	case get.status != http.StatusNotFound:
		s.t.Errorf("%s: %d %v", c.id, get.status, get.body)
	}
	if !slices.Contains(c.allowed, version) {
		s.t.Errorf("%s is version %d, allowed are %v", c.id, version, c.allowed)
	}
	c.allowed = []int{version}
	return packages
}

// After a kill while functions are put, restored and deleted, the next platform has the old or the
// new state of each, complete, and nothing else.
func TestAKilledPlatformHasTheOldFunctionOrTheNew(t *testing.T) {
	t.Logf("-kill.rounds=%d -kill.seed=%d", *killRounds, *killSeed)
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(*killSeed, 0))
	functions := []*changed{{id: "a", allowed: []int{0}}, {id: "b", allowed: []int{0}}, {id: "c", allowed: []int{0}}}
	for round := range *killRounds {
		host := exec.Command(exe)
		host.Env = append(os.Environ(), "TEST_SERVER="+dir)
		host.Stderr = os.Stderr
		out, err := host.StdoutPipe()
		if err == nil {
			err = host.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		url, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			_ = host.Process.Kill()
			t.Fatalf("round %d: the platform does not start: %v", round, errorsOf(host.Wait(), err))
		}
		client := &http.Client{Transport: &http.Transport{}}
		s := &server{t: t, url: strings.TrimSpace(url), c: client}
		var packages []string
		for _, c := range functions {
			packages = append(packages, c.check(s)...)
		}
		slices.Sort(packages)
		for name, want := range map[string]int{"packages": len(slices.Compact(packages)), "uploads": 0} {
			entries, err := os.ReadDir(filepath.Join(dir, name))
			if err != nil || len(entries) != want {
				t.Errorf("round %d: %s has %v, want %d (%v)", round, name, entries, want, err)
			}
		}
		if temps, _ := filepath.Glob(filepath.Join(dir, "functions", "*.tmp")); len(temps) > 0 {
			t.Errorf("round %d: left: %v", round, temps)
		}
		var wg sync.WaitGroup
		for i, c := range functions {
			rng := rand.New(rand.NewPCG(*killSeed, uint64(round*len(functions)+i+1)))
			wg.Go(func() { c.change(s, rng) })
		}
		// This does not wait for anything: any moment will do.
		time.Sleep(time.Duration(rng.IntN(150_000)) * time.Microsecond)
		_ = host.Process.Kill()
		wg.Wait()
		_ = host.Wait()
		client.CloseIdleConnections()
		if t.Failed() {
			return
		}
	}
}

func errorsOf(errs ...error) string {
	var texts []string
	for _, err := range errs {
		texts = append(texts, fmt.Sprint(err))
	}
	return strings.Join(texts, ", ")
}

// While a function is replaced and restored, every call is answered by the old code with the old
// configuration or by the new code with the new one.
func TestEveryCallDuringAReplacementIsAnsweredByOldOrNewCode(t *testing.T) {
	s := newServer(t)
	putWhole := func(version int) { s.mustPut("script", wholeZip(t, version), wholeHeader(version)...) }
	putJob := func(version int) {
		config := configHeader(map[string]any{"memory_mb": 256, "timeout_secs": 120,
			"env_vars": map[string]string{"VERSION": strconv.Itoa(version), "SOAK_LEDGER": os.DevNull}})
		s.mustPut("job", jobZip(), "X-Blueprint-Config", config, "X-Blueprint-If-Exists", "replace")
	}
	// A call's answer must lie between the version that was put when the call began and the last one
	// whose put had begun when it ended.
	var mu sync.Mutex
	begun, done := 1, 1
	look := func(v *int) int {
		mu.Lock()
		defer mu.Unlock()
		return *v
	}
	set := func(v *int, to int) {
		mu.Lock()
		defer mu.Unlock()
		*v = to
	}
	putWhole(1)
	putJob(1)
	args := string(make([]byte, 8)) + "a"
	callers := map[string]func() (int, error){
		"a script over HTTP": func() (int, error) { return int(s.mustInvoke("script", 0, "")[0]), nil },
		"a script in process": func() (int, error) {
			r, err := s.p.Invoke(context.Background(), "script", 0, nil)
			if err != nil {
				return 0, err
			}
			return int(r.Output[0]), nil
		},
		"a job over HTTP": func() (int, error) { return strconv.Atoi(s.mustInvoke("job", jobSoak, args)[32:]) },
		"a job in process": func() (int, error) {
			r, err := s.p.Invoke(context.Background(), "job", jobSoak, []byte(args))
			if err != nil {
				return 0, err
			}
			return strconv.Atoi(string(r.Output[32:]))
		},
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for name, call := range callers {
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					low := look(&done)
					version, err := call()
					if high := look(&begun); err != nil || version < low || version > high {
						t.Errorf("%s: version %d, allowed are %d to %d: %v", name, version, low, high, err)
						return
					}
				}
			})
		}
	}
	for version := 2; version <= 6; version++ {
		set(&begun, version)
		putWhole(version)
		putJob(version)
		set(&done, version)
	}
	close(stop)
	wg.Wait()
}
