//go:build unix

package load

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sample holds what one contender did in one round.
type Sample struct {
	Calls  int
	Wall   time.Duration
	CPU    time.Duration // of this program and all that it started; 0 where it is not known
	Median time.Duration // of one call
}

// Rate returns the calls per second.
func (s *Sample) Rate() float64 { return float64(s.Calls) / s.Wall.Seconds() }

// CPUPerCall returns the processor time of one call, including the client's part.
func (s *Sample) CPUPerCall() time.Duration { return s.CPU / time.Duration(max(s.Calls, 1)) }

// Measure makes calls from n goroutines, each one after another, for that long.
func Measure(call func() error, n int, long time.Duration) (Sample, error) {
	var s Sample
	var stop atomic.Bool
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var wg sync.WaitGroup
	before, known := cpuTime()
	began := time.Now()
	timer := time.AfterFunc(long, func() { stop.Store(true) })
	defer timer.Stop()
	for range n {
		wg.Go(func() {
			mine := make([]time.Duration, 0, 1024)
			start := time.Now()
			for !stop.Load() {
				if err := call(); err != nil {
					stop.Store(true)
					mu.Lock()
					defer mu.Unlock()
					failed = err
					return
				}
				end := time.Now()
				mine = append(mine, end.Sub(start))
				start = end
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wg.Wait()
	s.Wall = time.Since(began)
	after, _ := cpuTime()
	if known {
		s.CPU = after - before
	}
	s.Calls = len(took)
	if s.Calls > 0 {
		slices.Sort(took)
		s.Median = took[len(took)/2]
	}
	return s, failed
}
