//go:build linux

package platform

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var manyFunctions = flag.Int("many.functions", 60,
	"how many functions BenchmarkManyFunctions deploys, a twentieth of which it calls")

// BenchmarkManyFunctions deploys many functions, calls a few of them, and reports what the others
// cost: the platform's memory, processes, and the duration of the calls.
//
//	go test ./faas/platform -run '^$' -bench ManyFunctions -benchtime 1x -many.functions 1000
func BenchmarkManyFunctions(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		many(b, *manyFunctions)
		b.StartTimer()
	}
	b.ReportMetric(0, "ns/op") // it is not the point
}

func many(b *testing.B, n int) {
	const idleTimeout = time.Second
	p, err := New(WithIdleTimeout(idleTimeout))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	}()
	hot := max(n/20, 1)
	id := func(i int) string { return "f" + strconv.Itoa(i) }
	deploy := func(from, to int) {
		for i := from; i < to; i++ {
			d := &deployment{record: record{ID: id(i), Config: config{MemoryMB: 256, TimeoutSecs: 60, Env: jobEnvironment}},
				pkg: bytes.NewReader(jobZip())}
			if _, err := p.deploy(context.Background(), d); err != nil {
				b.Fatal(err)
			}
		}
	}
	processes := func() (n int, pss float64) {
		for _, f := range p.list("") {
			for _, pid := range f.pool.Stats().PIDs {
				n++
				pss += pssOf(pid)
			}
		}
		return n, pss
	}
	// calls calls the hot functions until done returns true, and returns the durations in ascending
	// order.
	calls := func(done func(made int) bool) []time.Duration {
		var mu sync.Mutex
		var all []time.Duration
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(g)))
				var took []time.Duration
				for !done(len(took)) {
					began := time.Now()
					if _, err := p.Invoke(context.Background(), id(rng.IntN(hot)), jobEcho, benchArgs); err != nil {
						b.Error(err)
						return
					}
					took = append(took, time.Since(began))
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, took...)
			})
		}
		wg.Wait()
		slices.Sort(all)
		return all
	}
	report := func(name string, took []time.Duration) {
		for _, q := range []int{50, 99} {
			b.ReportMetric(float64(took[len(took)*q/100].Nanoseconds())/1000, fmt.Sprintf("%s-p%d-us", name, q))
		}
	}
	enough := func(made int) bool { return made >= 5_000 }

	deploy(0, hot)
	calls(enough)
	report("alone", calls(enough))
	before := memory(b)
	began := time.Now()
	deploy(hot, n)
	b.ReportMetric(time.Since(began).Seconds()*1000/float64(n-hot), "deploy-ms")
	started, pss := processes()
	b.ReportMetric(float64(started), "processes-deployed")
	b.ReportMetric(pss/float64(max(started, 1))/(1<<20), "MB-PSS/process")
	// The idle processes end while the hot functions are called.
	deadline := time.Now().Add(aWhile)
	calls(func(int) bool {
		if time.Now().After(deadline) {
			return true
		}
		for _, f := range p.list("") {
			if i, _ := strconv.Atoi(f.ID[1:]); i >= hot && len(f.pool.Stats().PIDs) > 0 {
				return false
			}
		}
		return true
	})
	left, _ := processes()
	b.ReportMetric(float64(left), "processes-hot")
	after := memory(b)
	b.ReportMetric((after.heap-before.heap)/float64(n-hot), "heap-B/idle")
	b.ReportMetric((after.rss-before.rss)/float64(n-hot), "RSS-B/idle")
	b.ReportMetric(float64(after.goroutines-before.goroutines)/float64(n-hot), "goroutines/idle")
	b.ReportMetric(float64(after.descriptors-before.descriptors)/float64(n-hot), "fds/idle")
	calls(enough)
	report("beside", calls(enough))
	var cold []time.Duration
	for i := hot; i < min(n, hot+50); i++ {
		began := time.Now()
		if _, err := p.Invoke(context.Background(), id(i), jobEcho, benchArgs); err != nil {
			b.Fatal(err)
		}
		cold = append(cold, time.Since(began))
	}
	slices.Sort(cold)
	report("respawn", cold)
}

type held struct {
	heap, rss               float64
	goroutines, descriptors int
}

func memory(b *testing.B) held {
	for range 3 {
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		b.Fatal(err)
	}
	return held{float64(m.HeapAlloc), float64(pages * os.Getpagesize()), runtime.NumGoroutine(), count(b, "/proc/self/fd")}
}

// pssOf returns the proportional set size of a process in bytes, or 0 if it is gone.
func pssOf(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
			kb, _ := strconv.ParseFloat(fields[1], 64)
			return kb * 1024
		}
	}
	return 0
}
