//go:build linux

package platform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

var (
	soakCalls = flag.Int("soak.calls", 3000, "how many calls TestSoak makes; a long run has a million")
	soakSeed  = flag.Uint64("soak.seed", 1, "what TestSoak's calls and changes are drawn from")
)

// The ways in which a call of the soak can end.
const (
	soakPending = iota
	soakAnswered
	soakNotRun // it certainly did not run
	soakFailed // it may have run
)

// soakFunction is a function of the soak, and what may happen to it.
type soakFunction struct {
	id      string
	spawn   bool   // a process per call
	kinds   string // of calls, by weight; see testdata/job/soak.go
	changes string // r: replace, d: delete and put, b: put the previous generation back
	config  map[string]any

	change    sync.Mutex
	begun     atomic.Int64 // the last version that was put
	committed atomic.Int64 // the last version whose PUT was answered
}

// allows reports whether a call may end so. A function that is only ever replaced answers every
// call.
func (f *soakFunction) allows(kind byte, e outcome) bool {
	stormy, deleted := strings.ContainsAny(f.kinds, "xkhm"), strings.Contains(f.changes, "d")
	switch e.code {
	case "FUNCTION_FAILED":
		return stormy || kind == 'f' || kind == 'p'
	case "TIMEOUT", "THROTTLED", "UNAVAILABLE":
		return stormy
	case "NOT_FOUND":
		return deleted && e.notRun
	}
	return false
}

// outcome is what a caller learned of a call.
type outcome struct {
	output []byte
	code   string // of the protocol; empty for an answer
	notRun bool
	err    error
}

// soak is one run.
type soak struct {
	*server
	functions []*soakFunction
	ledger    string
	ended     []uint8 // by call
	codes     sync.Map
	bad       atomic.Int32
}

func (s *soak) fail(format string, args ...any) {
	if s.bad.Add(1) <= 20 {
		s.t.Errorf(format, args...)
	}
}

// TestSoak makes many calls of every kind, over HTTP and in process, while functions crash, hang,
// eat memory, are replaced, removed and restored, and callers give up. Every call expects an answer
// of its own and every execution is recorded, so that lost, doubled and mixed up answers show. At
// the end nothing may be left.
func TestSoak(t *testing.T) {
	t.Logf("-soak.calls=%d -soak.seed=%d", *soakCalls, *soakSeed)
	p, err := New(WithDir(t.TempDir()), WithQueue(2), WithMaxWorkers(3), WithDrainTimeout(aWhile))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := p.Server()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		_ = srv.Close()
		<-served
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &soak{server: &server{t, p, "http://" + listener.Addr().String(), client},
		ledger: filepath.Join(t.TempDir(), "ledger"), ended: make([]uint8, *soakCalls)}
	small := map[string]any{"memory_mb": 128, "timeout_secs": 1, "max_concurrency": 4}
	s.functions = []*soakFunction{
		{id: "calm", kinds: "aaaaaaaasl", changes: "r"},
		{id: "calm-too", kinds: "aaaaaaaaaasc", changes: "r"},
		{id: "back", kinds: "aaaaaaafp", changes: "rb"},
		{id: "flickers", kinds: "aaaaaaaaas", changes: "dr"},
		{id: "storm", kinds: strings.Repeat("aaaaaaaasfplc", 100) + "xxxxkkkkhm", changes: "r", config: small},
		{id: "storm-too", kinds: strings.Repeat("aaaaaaaasfpl", 100) + "xxkkm", changes: "rbd", config: small},
		{id: "spawn", spawn: true, kinds: "aaaaaas", changes: "r"},
	}
	warmUp := max(*soakCalls/10, 500)
	s.run(0, warmUp)
	before := s.settle()
	s.run(warmUp, *soakCalls)
	after := s.settle()
	s.checkLedger()
	t.Logf("before %+v, after %+v", before, after)
	s.codes.Range(func(code, n any) bool {
		t.Logf("%-22v %d", code, n.(*atomic.Int64).Load())
		return true
	})
	// The numbers of descriptors and goroutines have been waited for; memory gets the slack that a
	// garbage collector needs.
	if after.descriptors > before.descriptors || after.goroutines > before.goroutines {
		t.Errorf("descriptors or goroutines are left: before %+v, after %+v", before, after)
	}
	if after.heapMB > before.heapMB+4 || after.rssMB > before.rssMB+32 && !raceDetector() {
		t.Errorf("memory has grown: before %+v, after %+v", before, after)
	}
}

// run makes the calls from one number to another.
func (s *soak) run(from, to int) {
	for _, f := range s.functions {
		s.change(f, func() { s.put(f, false) })
	}
	// Single calls, a few at a time and a crowd take different paths through the platform.
	part := (to - from + 9) / 10
	for i, callers := range []int{1, 32, 3, 32, 32, 3, 32, 32, 32, 32} {
		s.crowd(callers, min(from+i*part, to), min(from+(i+1)*part, to))
	}
	for _, f := range s.functions {
		s.change(f, func() { s.delete(f) })
	}
}

// crowd makes the calls from one number to another, callers at a time.
func (s *soak) crowd(callers, from, to int) {
	var next atomic.Int64
	next.Store(int64(from))
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= to || s.bad.Load() > 20 {
					return
				}
				rng := rand.New(rand.NewPCG(*soakSeed, uint64(n)))
				if n%400 == 0 {
					s.disturb(rng)
				}
				if n%100_000 == 0 && n > 0 {
					s.t.Logf("%d calls", n)
				}
				s.call(n, rng)
			}
		})
	}
	wg.Wait()
}

// change makes one change of a function at a time.
func (s *soak) change(f *soakFunction, change func()) {
	f.change.Lock()
	defer f.change.Unlock()
	change()
}

// disturb changes a function, or reads what the platform reports.
func (s *soak) disturb(rng *rand.Rand) {
	f := s.functions[rng.IntN(len(s.functions))]
	kind := f.changes[rng.IntN(len(f.changes))]
	s.change(f, func() {
		switch kind {
		case 'r':
			s.put(f, true)
		case 'd':
			s.delete(f)
			s.put(f, true)
		case 'b':
			s.back(f)
		}
	})
	switch rng.IntN(4) {
	case 0:
		s.do(http.MethodGet, "/api/functions/"+f.id+"/health", nil)
	case 1:
		s.do(http.MethodGet, "/api/functions", nil)
	case 2:
		s.scrape()
	case 3:
		s.do(http.MethodPost, "/api/functions/"+f.id+"/warm?instances=2", nil)
	}
}

// unmarked is the job binary without the mark that tells the platform to keep its process.
var unmarked = sync.OnceValue(func() []byte {
	marked := []byte("blueprint-serverless/job/protocols")
	return zipBinary(bytes.ReplaceAll(jobBinary(), marked, bytes.ToUpper(marked)))
})

func (s *soak) put(f *soakFunction, replace bool) {
	version := f.begun.Add(1)
	config := map[string]any{"memory_mb": 512, "timeout_secs": 120,
		"env_vars": map[string]string{"VERSION": strconv.FormatInt(version, 10), "SOAK_LEDGER": s.ledger}}
	for name, value := range f.config {
		config[name] = value
	}
	pkg := jobZip()
	if f.spawn {
		pkg = unmarked()
	}
	header := []string{"X-Blueprint-Config", configHeader(config), "X-Blueprint-Fingerprint",
		"v" + strconv.FormatInt(version, 10)}
	if replace {
		header = append(header, "X-Blueprint-If-Exists", "replace")
	}
	if a := s.server.put(f.id, pkg, header...); a.status != http.StatusOK {
		s.fail("PUT %s: %d %v", f.id, a.status, a.body)
	}
	f.committed.Store(version)
}

func (s *soak) delete(f *soakFunction) {
	if a := s.do(http.MethodDelete, "/api/functions/"+f.id, nil); a.status != http.StatusOK {
		s.fail("DELETE %s: %d %v", f.id, a.status, a.body)
	}
}

func (s *soak) back(f *soakFunction) {
	previous, ok := s.do(http.MethodGet, "/api/functions/"+f.id, nil).body["previous"]
	if !ok {
		return
	}
	body, err := json.Marshal(previous)
	if err != nil {
		s.fail("%v", err)
		return
	}
	if a := s.do(http.MethodPost, "/api/functions/"+f.id+"/restore", body); a.status != http.StatusOK {
		s.fail("restore %s: %d %v", f.id, a.status, a.body)
	}
}

// call makes one call and checks how it ended.
func (s *soak) call(n int, rng *rand.Rand) {
	f := s.functions[rng.IntN(len(s.functions))]
	if f.spawn && rng.IntN(20) > 0 { // they take long
		f = s.functions[rng.IntN(len(s.functions)-1)]
	}
	kind := f.kinds[rng.IntN(len(f.kinds))]
	size := 9 + rng.IntN(64)
	switch rng.IntN(500) {
	case 0:
		size = 1 << 20
	case 1, 2, 3, 4:
		size = 64 << 10
	}
	args := make([]byte, size)
	binary.LittleEndian.PutUint64(args, uint64(n))
	args[8] = kind
	for i := 9; i < min(size, 128); i++ {
		args[i] = byte(rng.Uint32())
	}
	ctx, givesUp := context.Background(), rng.IntN(100) == 0
	if givesUp {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(5000))*time.Microsecond)
		defer cancel()
	}
	committed := f.committed.Load()
	var got outcome
	if rng.IntN(2) == 0 {
		got = s.callInProcess(ctx, f.id, args)
	} else {
		got = s.callHTTP(ctx, f.id, args)
	}
	counter, _ := s.codes.LoadOrStore(got.code, new(atomic.Int64))
	counter.(*atomic.Int64).Add(1)
	switch {
	case got.notRun:
		s.ended[n] = soakNotRun
	case got.code != "":
		s.ended[n] = soakFailed
	default:
		s.ended[n] = soakAnswered
		sum := sha256.Sum256(args)
		version, err := strconv.ParseInt(string(got.output[min(len(got.output), len(sum)):]), 10, 64)
		if !bytes.HasPrefix(got.output, sum[:]) || err != nil {
			s.fail("call %d of %s (%c): the answer is another's, or of nobody: %x", n, f.id, kind, got.output)
		}
		if version < committed && !strings.Contains(f.changes, "b") || version > f.begun.Load() {
			s.fail("call %d of %s: version %d answered, %d was there when it began, %d is the last", n, f.id, version,
				committed, f.begun.Load())
		}
		if strings.IndexByte("xkhmfp", kind) >= 0 {
			s.fail("call %d of %s (%c) was answered", n, f.id, kind)
		}
	}
	if got.code != "" && !givesUp && !f.allows(kind, got) {
		s.fail("call %d of %s (%c): %s, not run: %v: %v", n, f.id, kind, got.code, got.notRun, got.err)
	}
}

func (s *soak) callInProcess(ctx context.Context, id string, args []byte) outcome {
	r, err := s.p.Invoke(ctx, id, jobSoak, args)
	if err == nil {
		return outcome{output: r.Output}
	}
	var failed *faas.Error
	if !errors.As(err, &failed) {
		return outcome{code: "OTHER", err: err}
	}
	return outcome{code: codes[failed.Code].name, notRun: failed.NotRun, err: err}
}

func (s *soak) callHTTP(ctx context.Context, id string, args []byte) outcome {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/functions/"+id+"/invoke",
		bytes.NewReader(faas.AppendRequest(nil, jobSoak, args)))
	if err != nil {
		return outcome{code: "OTHER", err: err}
	}
	resp, err := s.c.Do(req)
	if err != nil {
		return outcome{code: "DISCONNECTED", err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return outcome{code: "DISCONNECTED", err: err}
	}
	if resp.StatusCode == http.StatusOK {
		var r faas.Response
		if err := faas.ParseResponse(text, &r); err != nil || !r.Success || r.JobID != jobSoak {
			return outcome{code: "OTHER", err: fmt.Errorf("%w in %.200q", err, text)}
		}
		return outcome{output: r.Result}
	}
	var f failure
	if err := json.Unmarshal(text, &f); err != nil {
		return outcome{code: "OTHER", err: fmt.Errorf("%w in %.200q", err, text)}
	}
	return outcome{code: f.Code, notRun: f.Details["not_run"] == true, err: errors.New(f.Error)}
}

// checkLedger compares what ran with what callers were told.
func (s *soak) checkLedger() {
	text, err := os.ReadFile(s.ledger)
	if err != nil || len(text)%8 != 0 {
		s.t.Fatalf("the ledger has %d bytes: %v", len(text), err)
	}
	ran := make([]uint8, len(s.ended))
	for ; len(text) > 0; text = text[8:] {
		n := binary.LittleEndian.Uint64(text)
		if n >= uint64(len(ran)) {
			s.fail("call %d ran, which nobody made", n)
			continue
		}
		ran[n]++
	}
	for n, end := range s.ended {
		switch {
		case end == soakPending && s.bad.Load() == 0:
			s.fail("call %d has no end", n)
		case ran[n] > 1:
			s.fail("call %d ran %d times", n, ran[n])
		case end == soakAnswered && ran[n] == 0:
			s.fail("call %d was answered and did not run", n)
		case end == soakNotRun && ran[n] != 0:
			s.fail("call %d ran and its caller was told that it did not", n)
		}
	}
}

// footprint is what the process uses of the machine.
type footprint struct{ rssMB, heapMB, descriptors, goroutines int }

// settle waits until nothing is left of the functions, and returns what the program uses then.
func (s *soak) settle() footprint {
	s.t.Helper()
	var now, last footprint
	same, left := 0, []string(nil)
	for deadline := time.Now().Add(aWhile); same < 10; time.Sleep(10 * time.Millisecond) {
		s.c.CloseIdleConnections()
		left = s.left()
		now = footprint{descriptors: count(s.t, "/proc/self/fd"), goroutines: runtime.NumGoroutine()}
		if same++; len(left) > 0 || now != last {
			same = 0
		}
		last = now
		if time.Now().After(deadline) {
			s.t.Fatalf("it does not settle: %+v, left: %v", now, left)
		}
	}
	for range 3 { // what is in a sync.Pool outlives a collection
		debug.FreeOSMemory()
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		s.t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		s.t.Fatal(err)
	}
	now.rssMB = pages * os.Getpagesize() >> 20
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	now.heapMB = int(m.HeapAlloc >> 20)
	return now
}

// raceDetector reports whether the race detector is on, whose own memory grows with everything that
// happens.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings,
		func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// left returns the processes and files of functions that are left.
func (s *soak) left() (left []string) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(text, []byte("SOAK_LEDGER="+s.ledger)) {
			left = append(left, path)
		}
	}
	for _, dir := range []string{"functions", "packages", "uploads", "work"} {
		entries, err := os.ReadDir(filepath.Join(s.p.Dir(), dir))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, dir+"/"+e.Name())
		}
	}
	return left
}

func count(t testing.TB, dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
