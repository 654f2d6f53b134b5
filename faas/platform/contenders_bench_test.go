//go:build unix

package platform_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load"
	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load/floor"
)

func newField(b *testing.B) *load.Field {
	b.Helper()
	f, err := load.NewField(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := f.Close(); err != nil {
			b.Error(err)
		}
	})
	return f
}

// run makes b.N calls from n goroutines.
func run(b *testing.B, n int, call func() error) {
	b.Helper()
	b.ReportAllocs()
	for range n { // connections and processes
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func title(name string) string { return strings.ReplaceAll(name, " ", "-") }

// BenchmarkCall makes small calls, several at a time. The program internal/load/compare runs the
// same contenders in turns, which is more telling on a busy machine.
func BenchmarkCall(b *testing.B) {
	f := newField(b)
	for _, n := range []int{1, 8, 64} {
		for _, c := range f.Contenders {
			b.Run(fmt.Sprintf("c%d/%s", n, title(c.Name)), func(b *testing.B) { run(b, n, c.Call) })
		}
	}
}

// BenchmarkLargeCall sends 4 MiB and gets them back.
func BenchmarkLargeCall(b *testing.B) {
	f := newField(b)
	for _, c := range f.Large {
		b.Run(title(c.Name), func(b *testing.B) {
			b.SetBytes(floor.LargePayload)
			run(b, 1, c.Call)
		})
	}
}

// BenchmarkDeploy goes from a package to the first answer. It compares the platform with the least
// that any deployment must do.
func BenchmarkDeploy(b *testing.B) {
	f := newField(b)
	for _, kind := range []string{"deflated", "stored"} {
		next := func(b *testing.B) []byte {
			b.StopTimer()
			defer b.StartTimer()
			pkg, err := f.NewPackage(kind == "deflated")
			if err != nil {
				b.Fatal(err)
			}
			return pkg
		}
		b.Run(kind+"/platform", func(b *testing.B) {
			for b.Loop() {
				if err := f.DeployAndCall(b.Context(), next(b)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind+"/by-hand", func(b *testing.B) {
			for b.Loop() {
				end, err := f.ByHand(next(b))
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := end(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
