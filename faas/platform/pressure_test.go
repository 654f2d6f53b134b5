//go:build unix

package platform

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// However many callers there are, a function runs and queues only as many calls as it may. Other
// callers learn at once when to come again.
func TestThousandsOfCallersAreHeldBack(t *testing.T) {
	const callers, concurrency, queue = 3000, 4, 16
	s := newServer(t, WithQueue(queue))
	s.putJobs("f", map[string]any{"max_concurrency": concurrency})
	f, err := s.p.lookup("test", "f")
	if err != nil {
		t.Fatal(err)
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var refused, gaveUp, other atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			_, err := s.p.Invoke(ctx, "f", jobHang, make([]byte, 32<<10))
			var failed *faas.Error
			switch {
			case !errors.As(err, &failed):
				other.Add(1)
			case failed.Code == faas.ErrThrottled && failed.NotRun && failed.RetryAfter > 0:
				refused.Add(1)
			case failed.Code == faas.ErrTimeout: // given up below
				gaveUp.Add(1)
			default:
				other.Add(1)
				t.Error(err)
			}
		})
	}
	for deadline := time.Now().Add(aWhile); refused.Load() < callers-concurrency-queue; time.Sleep(time.Millisecond) {
		if st := f.pool.Stats(); st.Running > concurrency || st.Waiting > queue {
			t.Fatalf("%d calls run and %d wait", st.Running, st.Waiting)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d were refused", refused.Load(), callers-concurrency-queue)
		}
	}
	if grown := (heap() - before) >> 20; grown > 16 { // the arguments of all callers are 94 MiB
		t.Errorf("%d MiB are held for callers that were refused", grown)
	}
	for range 50 {
		if a := s.invoke("f", jobEcho, "x"); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" ||
			a.body["details"].(map[string]any)["not_run"] != true {
			t.Fatalf("%d %v %v", a.status, a.header, a.body)
		}
	}
	cancel()
	wg.Wait()
	if gaveUp.Load() != concurrency+queue || other.Load() != 0 {
		t.Errorf("%d were refused, %d ran or waited, %d had other ends", refused.Load(), gaveUp.Load(), other.Load())
	}
	if got := s.mustInvoke("f", jobEcho, "next"); got != "next" {
		t.Error(got)
	}
	if got := s.scrape()[`invocations_total{function="f",code="throttled"}`]; got != float64(refused.Load()+50) {
		t.Errorf("%v throttled calls are counted", got)
	}
}

// The memory of large requests is bounded for all functions together. Requests beyond the bound are
// refused before they are read, and all memory is freed.
func TestLargeRequestsTakeBoundedMemory(t *testing.T) {
	const callers, limitMB = 200, 8
	s := newServer(t, WithLimits(Limits{MaxBufferedMB: limitMB}))
	s.putJobs("f", map[string]any{"memory_mb": 512})
	body := faas.AppendRequest(nil, jobSlow, bytes.Repeat([]byte{200}, 256<<10)) // a mebibyte of JSON
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	stop := make(chan struct{})
	var most, heap atomic.Int64
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			most.Store(max(most.Load(), s.p.buffered.Used()))
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap.Store(max(heap.Load(), int64(m.HeapAlloc)-int64(before)))
			time.Sleep(time.Millisecond)
		}
	})
	var answered, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			var r io.Reader = bytes.NewReader(body)
			if i%2 == 0 {
				r = io.MultiReader(r) // in chunks, with no length that is known before
			}
			req, err := http.NewRequest(http.MethodPost, s.url+"/api/functions/f/invoke", r)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := s.c.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			switch {
			case err != nil:
				t.Error(err)
			case resp.StatusCode == http.StatusOK:
				answered.Add(1)
			case resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" &&
				strings.Contains(string(text), `"not_run":true`):
				refused.Add(1)
			default:
				t.Errorf("%d %.200s", resp.StatusCode, text)
			}
		})
	}
	wg.Wait()
	close(stop)
	watch.Wait()
	if answered.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d were answered and %d refused", answered.Load(), refused.Load())
	}
	// Answers count once they exist, so running calls can exceed the limit by theirs.
	if limit := int64(limitMB<<20 + 32*len(body)); most.Load() > limit {
		t.Errorf("%d bytes were held, the limit is %d", most.Load(), limit)
	}
	t.Logf("%d answered, %d refused, %d MiB held at most, heap grown by %d MiB at most, clients included",
		answered.Load(), refused.Load(), most.Load()>>20, heap.Load()>>20)
	if used := s.p.buffered.Used(); used != 0 {
		t.Errorf("%d bytes are not given back", used)
	}
}
